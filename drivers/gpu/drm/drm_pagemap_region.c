// SPDX-License-Identifier: GPL-2.0-only OR MIT

#include <linux/debugfs.h>
#include <linux/device.h>
#include <linux/export.h>
#include <linux/ioport.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/topology.h>
#include <linux/wait_bit.h>

#include <drm/drm_device.h>
#include <drm/drm_drv.h>
#include <drm/drm_managed.h>
#include <drm/drm_pagemap.h>
#include <drm/drm_print.h>

#include "drm_pagemap_internal.h"

/**
 * DOC: Regions
 *
 * A region is a pool of device pages with a struct page each.  Pages of private
 * memory are at physical addresses that nothing else uses.  They are only names:
 * the driver decides which part of its memory a page stands for, usually by the
 * offset from &drm_pagemap_region.start_pfn.  Pages of coherent memory are where
 * the CPU accesses the memory.
 *
 * When the device goes away, the processes keep their data: unplugging the
 * region first closes it to new migrations and then moves every page that is
 * left to RAM.  This can neither fail nor be cut short, for a page that was left
 * behind would be one without memory.  A driver whose hardware is gone
 * already provides substitute contents in &drm_pagemap_devmem_ops.copy_to_ram.
 *
 * The region itself, without pages then, stays until the struct drm_device is
 * released: a migration by a user who still has the struct drm_pagemap fails with
 * -ENODEV, and the counters can be read.
 */

static const char * const drm_pagemap_counter_names[] = {
	[DRM_PAGEMAP_PAGES_TO_DEVMEM]	= "pages-to-devmem",
	[DRM_PAGEMAP_PAGES_FAULTED]	= "pages-faulted",
	[DRM_PAGEMAP_PAGES_EVICTED]	= "pages-evicted",
	[DRM_PAGEMAP_CPU_FAULTS]	= "cpu-faults",
	[DRM_PAGEMAP_TIMESLICE_SLEEPS]	= "timeslice-sleeps",
	[DRM_PAGEMAP_TO_DEVMEM_FAILS]	= "to-devmem-fails",
	[DRM_PAGEMAP_TO_RAM_FAILS]	= "to-ram-fails",
	[DRM_PAGEMAP_PAGES_FROM_PEERS]	= "pages-from-peers",
	[DRM_PAGEMAP_PAGES_TO_PEERS]	= "pages-to-peers",
	[DRM_PAGEMAP_PAGES_POISONED]	= "pages-poisoned",
};

static_assert(ARRAY_SIZE(drm_pagemap_counter_names) ==
	      DRM_PAGEMAP_NUM_COUNTERS);

/**
 * drm_pagemap_region_resident() - Count the pages of a region that are in use
 * @region: The region.
 *
 * Looks at every page, so that nothing has to be counted when pages come and
 * go.  The result is out of date when it is returned.
 *
 * Context: Process context, may sleep.  Not in a callback of a migration to the
 * region, nor with a lock that one takes.
 * Return: The number of pages, 0 once the device is unbound.
 */
unsigned long drm_pagemap_region_resident(struct drm_pagemap_region *region)
{
	unsigned long i, first, npages, n = 0;

	/* The pages stay as long as this is held. */
	down_read(&region->gate);
	for (i = 0; !region->gone && i < region->nparts; i++) {
		/* Nothing is in use where there are no struct pages. */
		if (!drm_pagemap_parts_tryget(region, i, i))
			continue;
		first = drm_pagemap_part_first(region, i);
		npages = drm_pagemap_part_npages(region, i);
		n += drm_pagemap_pages_in_use(first, npages);
		drm_pagemap_parts_put(region, i, i);
	}
	up_read(&region->gate);

	return n;
}
EXPORT_SYMBOL_GPL(drm_pagemap_region_resident);

/**
 * drm_pagemap_region_print() - Print the state of a region
 * @region: The region.
 * @p: Printer.
 *
 * Prints the size, the pages in use and the counters, one per line.  With
 * %DRM_PAGEMAP_REGION_ON_DEMAND also the number of parts of the region, of those
 * that have struct pages, and of those of them without users, and the RAM that
 * the struct pages take in bytes ("memmap").
 *
 * Context: As drm_pagemap_region_resident().
 */
void drm_pagemap_region_print(struct drm_pagemap_region *region,
			      struct drm_printer *p)
{
	unsigned int i;

	drm_printf(p, "pages: %lu\n", region->npages);
	drm_printf(p, "resident: %lu\n", drm_pagemap_region_resident(region));
	drm_pagemap_parts_print(region, p);
	for (i = 0; i < DRM_PAGEMAP_NUM_COUNTERS; i++)
		drm_printf(p, "%s: %lld\n", drm_pagemap_counter_names[i],
			   atomic64_read(&region->counters[i]));
}
EXPORT_SYMBOL_GPL(drm_pagemap_region_print);

static int drm_pagemap_region_show(struct seq_file *m, void *unused)
{
	struct drm_printer p = drm_seq_file_printer(m);

	drm_pagemap_region_print(m->private, &p);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(drm_pagemap_region);

/**
 * drm_pagemap_region_unplug() - Empty a region for good
 * @region: The region.
 *
 * From the call on, migrations to the region fail with -ENODEV.  Those under
 * way are waited for, then all pages of the region are moved to RAM, whatever
 * process they belong to, and the releases that are due by then are waited for.  It
 * does not give up: pages that cannot be moved are tried again, with an error
 * message now and then.
 *
 * On return no process can reach a page of the region any more.  The last steps
 * of freeing a page may still run on another CPU, though, and the release of its
 * allocation come after them.  Both are over when devres has removed the
 * region, which waits for them: what a devmem_release() needs must stay until
 * then.
 *
 * A driver calls it in its remove function, after drm_dev_unplug() and while its
 * copy callbacks still work.  It is called again, to no effect then, when the
 * region is removed.
 *
 * Context: Process context, may sleep.  The caller must not hold an mmap lock,
 * nor a lock that an mmu notifier, a devmem_release() or a copy_to_ram() takes.
 */
void drm_pagemap_region_unplug(struct drm_pagemap_region *region)
{
	unsigned long warn = jiffies + 10 * HZ;
	unsigned long used, moved;
	long delay = 1;
	bool gone;

	down_write(&region->gate);
	WRITE_ONCE(region->unplugged, true);
	gone = region->gone;
	up_write(&region->gate);

	while (!gone) {
		moved = 0;
		used = drm_pagemap_region_evict(region, &moved);
		if (!used)
			break;
		if (used == moved)
			continue;

		if (time_after(jiffies, warn)) {
			drm_err(region->drm,
				"%lu pages cannot be moved to RAM yet, retrying\n",
				used - moved);
			warn = jiffies + 10 * HZ;
		}
		delay = moved ? 1 : min(delay * 2, HZ / 10);
		schedule_timeout_uninterruptible(delay);
	}

	drm_pagemap_release_flush();
}
EXPORT_SYMBOL_GPL(drm_pagemap_region_unplug);

/* devres undoes in reverse order: this runs before the pages go away. */
static void drm_pagemap_region_fini(void *data)
{
	struct drm_pagemap_region *region = data;

	/* Unregistering the device has removed its whole directory. */
	if (region->drm->debugfs_root)
		debugfs_remove(region->debugfs);
	drm_pagemap_region_unplug(region);

	down_write(&region->gate);
	WRITE_ONCE(region->gone, true);
	up_write(&region->gate);
	wait_var_event(&region->visitors, !atomic_read(&region->visitors));
}

/**
 * drm_pagemap_region_enter() - Keep the struct pages of a region in place
 * @region: The region.
 *
 * Unbind waits for drm_pagemap_region_exit().  Of a region whose struct pages are
 * made on demand, this keeps only what has users.
 *
 * Context: Process context, may sleep.
 * Return: False if they are gone already.
 */
bool drm_pagemap_region_enter(struct drm_pagemap_region *region)
{
	bool gone;

	down_read(&region->gate);
	gone = region->gone;
	if (!gone)
		atomic_inc(&region->visitors);
	up_read(&region->gate);

	return !gone;
}

/**
 * drm_pagemap_region_exit() - Undo drm_pagemap_region_enter()
 * @region: The region.
 *
 * Context: Process context.
 */
void drm_pagemap_region_exit(struct drm_pagemap_region *region)
{
	if (atomic_dec_and_test(&region->visitors))
		wake_up_var(&region->visitors);
}

static void drm_pagemap_region_unmap(void *data)
{
	drm_pagemap_parts_fini(data);
}

/* This runs after the pages have gone away. */
static void drm_pagemap_region_put_drm(void *data)
{
	drm_dev_put(data);
}

/* This runs when the struct drm_device is released. */
static void drm_pagemap_region_forget(struct drm_device *drm, void *data)
{
	struct drm_pagemap_region *region = data;

	drm_pagemap_region_unlink(region);
	xa_destroy(&region->broken);
	kvfree(region->parts);
}

static bool drm_pagemap_region_is_gone(struct drm_pagemap_region *region)
{
	bool gone;

	down_read(&region->gate);
	gone = region->gone;
	up_read(&region->gate);

	return gone;
}

static struct drm_pagemap_region *
drm_pagemap_region_alloc(struct drm_device *drm,
			 const struct drm_pagemap_region_args *args)
{
	struct drm_pagemap_region *region;
	int err;

	region = drmm_kzalloc(drm, sizeof(*region), GFP_KERNEL);
	if (!region)
		return ERR_PTR(-ENOMEM);

	init_rwsem(&region->gate);
	region->drm = drm;
	region->dpagemap = args->dpagemap;
	region->owner = args->owner;
	region->flags = args->flags;
	drm_pagemap_parts_prepare(region);

	drm_pagemap_region_link(region);
	err = drmm_add_action_or_reset(drm, drm_pagemap_region_forget, region);
	if (err) {
		drmm_kfree(drm, region);
		return ERR_PTR(err);
	}

	return region;
}

static void drm_pagemap_region_free(struct drm_pagemap_region *region)
{
	struct drm_device *drm = region->drm;

	drmm_release_action(drm, drm_pagemap_region_forget, region);
	drmm_kfree(drm, region);
}

/* Find the physical addresses of the pages. */
static int drm_pagemap_region_place(struct drm_pagemap_region *region,
				    struct device *dev,
				    const struct drm_pagemap_region_args *args)
{
	struct resource *res;

	if (args->flags & DRM_PAGEMAP_REGION_COHERENT) {
		/* memremap_pages() would warn, too. */
		if (region_intersects(args->start, args->size,
				      IORESOURCE_SYSTEM_RAM, IORES_DESC_NONE) !=
		    REGION_DISJOINT)
			return -EINVAL;
		region->type = MEMORY_DEVICE_COHERENT;
		region->start_pfn = PHYS_PFN(args->start);
		return 0;
	}

	res = devm_request_free_mem_region(dev, &iomem_resource, args->size);
	if (IS_ERR(res))
		return PTR_ERR(res);

	region->type = MEMORY_DEVICE_PRIVATE;
	region->start_pfn = PHYS_PFN(res->start);
	return 0;
}

static int drm_pagemap_region_map(struct drm_pagemap_region *region,
				  struct device *dev,
				  const struct drm_pagemap_region_args *args)
{
	int err;

	err = drm_pagemap_region_place(region, dev, args);
	if (err)
		return err;

	region->npages = args->size >> PAGE_SHIFT;
	region->nid = dev_to_node(dev);
	if (region->nid == NUMA_NO_NODE)
		region->nid = numa_mem_id();

	err = devm_add_action_or_reset(dev, drm_pagemap_region_unmap, region);
	return err ?: drm_pagemap_parts_init(region, args->name);
}

static void drm_pagemap_region_debugfs(struct drm_pagemap_region *region,
				       const char *name)
{
	struct dentry *root = region->drm->debugfs_root;
	char file[32];

	/* Without a directory, the file would be in that of debugfs itself. */
	if (!root)
		return;

	snprintf(file, sizeof(file), "pagemap-%s", name);
	region->debugfs = debugfs_create_file(file, 0444, root, region,
					      &drm_pagemap_region_fops);
}

static bool drm_pagemap_region_args_valid(const struct drm_pagemap_region_args *args)
{
	if (!args->size || !IS_ALIGNED(args->size, PAGE_SIZE) || !args->owner)
		return false;

	switch (args->flags) {
	case 0:
	case DRM_PAGEMAP_REGION_ON_DEMAND:
		return !args->start;
	case DRM_PAGEMAP_REGION_COHERENT:
		return args->start && IS_ALIGNED(args->start | args->size,
						 memremap_compat_align());
	default:
		return false;
	}
}

/**
 * devm_drm_pagemap_region_register() - Register a pool of device pages
 * @drm: The device; the region lives until its parent device is unbound.
 * @args: Description of the region; not used after the call.
 *
 * Finds a range of physical addresses that is free, creates the pages there,
 * and undoes that when the device is unbound, as if by
 * drm_pagemap_region_unplug().  The range takes up at least one section
 * (128 MiB on x86_64) of the physical address space, but struct pages only for
 * &drm_pagemap_region_args.size.  Coherent memory has its range already.  With
 * %DRM_PAGEMAP_REGION_ON_DEMAND, struct pages are made by
 * drm_pagemap_region_get_pages().
 *
 * Context: Process context, may sleep.
 *
 * Return: The region, or an ERR_PTR() with nothing left behind:
 *
 * * -EINVAL: bad size, owner, address or flags; the struct drm_pagemap has a
 *   region already; or the range is RAM.
 * * -ENOMEM: no memory.
 * * -ERANGE: no room in the physical address space.
 * * other errors of memremap_pages().
 */
struct drm_pagemap_region *
devm_drm_pagemap_region_register(struct drm_device *drm,
				 const struct drm_pagemap_region_args *args)
{
	struct drm_pagemap_region *region;
	struct device *dev = drm->dev;
	void *group;
	int err;

	region = drm_pagemap_region_find(args->dpagemap);
	if (!drm_pagemap_region_args_valid(args) ||
	    (region && !drm_pagemap_region_is_gone(region)))
		return ERR_PTR(-EINVAL);

	region = drm_pagemap_region_alloc(drm, args);
	if (IS_ERR(region))
		return region;

	group = devres_open_group(dev, NULL, GFP_KERNEL);
	if (!group) {
		err = -ENOMEM;
		goto err_free;
	}

	drm_dev_get(drm);
	err = devm_add_action_or_reset(dev, drm_pagemap_region_put_drm, drm);
	if (err)
		goto err_release;

	err = drm_pagemap_region_map(region, dev, args);
	if (err)
		goto err_release;

	drm_pagemap_region_debugfs(region, args->name);
	err = devm_add_action_or_reset(dev, drm_pagemap_region_fini, region);
	if (err)
		goto err_release;

	devres_close_group(dev, group);
	return region;

err_release:
	devres_release_group(dev, group);
err_free:
	drm_pagemap_region_free(region);
	return ERR_PTR(err);
}
EXPORT_SYMBOL_GPL(devm_drm_pagemap_region_register);

/**
 * devm_drm_pagemap_region_add() - Register a pool of device-private pages
 * @drm: The device; the region lives until its parent device is unbound.
 * @dpagemap: See struct drm_pagemap_region_args, as the next three.
 * @name: Name of the debugfs file.
 * @size: Size of the pool in bytes.
 * @owner: Owner cookie of the pages.
 *
 * Short for devm_drm_pagemap_region_register() without flags.
 *
 * Context: Process context, may sleep.
 * Return: As devm_drm_pagemap_region_register().
 */
struct drm_pagemap_region *
devm_drm_pagemap_region_add(struct drm_device *drm,
			    struct drm_pagemap *dpagemap, const char *name,
			    u64 size, void *owner)
{
	const struct drm_pagemap_region_args args = {
		.dpagemap = dpagemap,
		.name = name,
		.size = size,
		.owner = owner,
	};

	return devm_drm_pagemap_region_register(drm, &args);
}
EXPORT_SYMBOL_GPL(devm_drm_pagemap_region_add);
