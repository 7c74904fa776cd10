// SPDX-License-Identifier: GPL-2.0-only OR MIT

#include <linux/export.h>
#include <linux/lockdep.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/shrinker.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/topology.h>
#include <linux/wait_bit.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include <drm/drm_pagemap.h>
#include <drm/drm_print.h>

#include "drm_pagemap_internal.h"

/**
 * DOC: Regions on demand
 *
 * The struct pages of a region take up 1/64 of its size in RAM, 1 GiB for a
 * device with 64 GiB, whether the memory is used or not.  With
 * %DRM_PAGEMAP_REGION_ON_DEMAND, registering the region only reserves its
 * physical addresses.  The struct pages are made in parts of a section each
 * (128 MiB on x86_64, whose struct pages take 2 MiB), when the driver asks for
 * them, and go back when RAM is short and nobody uses the part.
 *
 * A driver calls drm_pagemap_region_get_pages() before it migrates anything to
 * a block of its memory for the first time, and without the mmap lock, since
 * memory hotplug is involved.  Each block that it allocates has a reference of
 * its own, which is dropped by drm_pagemap_region_put_pages() when the block is
 * freed, usually in &drm_pagemap_devmem_ops.devmem_release.  The allocation
 * itself is mostly made with the mmap lock held: there,
 * drm_pagemap_region_tryget_pages() takes a reference if the struct pages exist
 * already.  So an allocator prefers memory whose struct pages exist, and gets
 * more of them ahead of the migration that may need them::
 *
 *   err = drm_pagemap_region_get_pages(region, pfn, npages);
 *   mmap_read_lock(mm);
 *   drm_pagemap_migrate(...);	// its alloc() calls ..._tryget_pages()
 *   mmap_read_unlock(mm);
 *   if (!err)
 *           drm_pagemap_region_put_pages(region, pfn, npages);
 *
 * An allocation may extend over several parts.  One mapping of a device, as
 * &drm_pagemap_ops.device_map makes it, does not.
 *
 * A shrinker offers the RAM of the parts without users to memory reclaim.  It
 * leaves the work to a work item, since memory may be allocated with the locks of
 * memory hotplug held.  Parts in use are never touched.  Migration costs the same
 * as without the option, apart from the first one to a part.
 */

static unsigned long
drm_pagemap_part_index(const struct drm_pagemap_region *region,
		       unsigned long pfn)
{
	return (pfn - region->start_pfn) >> region->part_shift;
}

/**
 * drm_pagemap_part_first() - The first page of a part
 * @region: The region.
 * @i: Index of the part.
 *
 * Context: Any.
 * Return: The page frame number.
 */
unsigned long drm_pagemap_part_first(const struct drm_pagemap_region *region,
				     unsigned long i)
{
	return region->start_pfn + (i << region->part_shift);
}

/**
 * drm_pagemap_part_npages() - Number of pages of a part
 * @region: The region.
 * @i: Index of the part.
 *
 * Context: Any.
 * Return: The number of pages.
 */
unsigned long drm_pagemap_part_npages(const struct drm_pagemap_region *region,
				      unsigned long i)
{
	return min(region->npages - (i << region->part_shift),
		   1UL << region->part_shift);
}

/* RAM of the struct pages of a part, in pages */
static unsigned long
drm_pagemap_part_memmap(const struct drm_pagemap_region *region)
{
	return (sizeof(struct page) << region->part_shift) >> PAGE_SHIFT;
}

/**
 * drm_pagemap_pages_in_use() - Count pages in use
 * @pfn: The first page; all of them have a struct page.
 * @npages: Number of pages.
 *
 * Context: Process context, may sleep.
 * Return: The number of those that are in use.
 */
unsigned long drm_pagemap_pages_in_use(unsigned long pfn, unsigned long npages)
{
	unsigned long i, n = 0;

	for (i = 0; i < npages; i++) {
		if (page_ref_count(pfn_to_page(pfn + i)))
			n++;
		if (!(i % 4096))
			cond_resched();
	}

	return n;
}

static void drm_pagemap_part_get(struct drm_pagemap_part *part)
{
	lockdep_assert_held(&part->region->parts_lock);

	if (!part->users++)
		part->region->nidle--;
}

static void drm_pagemap_part_put(struct drm_pagemap_part *part)
{
	lockdep_assert_held(&part->region->parts_lock);

	if (WARN_ON_ONCE(!part->users))
		return;
	/* Without struct pages it is that of a device that is unbound. */
	if (!--part->users && part->present)
		part->region->nidle++;
}

static bool drm_pagemap_parts_present(const struct drm_pagemap_region *region,
				      unsigned long first, unsigned long last)
{
	unsigned long i;

	lockdep_assert_held(&region->parts_lock);

	for (i = first; i <= last; i++)
		if (!region->parts[i].present)
			return false;
	return true;
}

/**
 * drm_pagemap_parts_tryget() - Keep the struct pages of parts, if they exist
 * @region: The region.
 * @first: Index of the first part.
 * @last: Index of the last part.
 *
 * Context: Any.
 * Return: True if all exist, with a reference to each then.
 */
bool drm_pagemap_parts_tryget(struct drm_pagemap_region *region,
			      unsigned long first, unsigned long last)
{
	unsigned long i, flags;
	bool present;

	spin_lock_irqsave(&region->parts_lock, flags);
	present = drm_pagemap_parts_present(region, first, last);
	for (i = first; present && i <= last; i++)
		drm_pagemap_part_get(&region->parts[i]);
	spin_unlock_irqrestore(&region->parts_lock, flags);

	return present;
}

/**
 * drm_pagemap_parts_put() - Undo drm_pagemap_parts_tryget()
 * @region: The region.
 * @first: Index of the first part.
 * @last: Index of the last part.
 *
 * Context: Any.
 */
void drm_pagemap_parts_put(struct drm_pagemap_region *region,
			   unsigned long first, unsigned long last)
{
	unsigned long i, flags;

	spin_lock_irqsave(&region->parts_lock, flags);
	for (i = first; i <= last; i++)
		drm_pagemap_part_put(&region->parts[i]);
	spin_unlock_irqrestore(&region->parts_lock, flags);
}

/**
 * drm_pagemap_parts_note_broken() - Remember a broken page
 * @region: The region.
 * @pfn: The page, marked by PageHWPoison().
 *
 * If its struct page goes and comes back, it is marked again.
 *
 * Context: Process context, may sleep.
 */
void drm_pagemap_parts_note_broken(struct drm_pagemap_region *region,
				   unsigned long pfn)
{
	/* A page that is forgotten would be used again. */
	xa_store(&region->broken, pfn, xa_mk_value(0), GFP_KERNEL | __GFP_NOFAIL);
}

static void drm_pagemap_part_mark_broken(struct drm_pagemap_part *part)
{
	struct drm_pagemap_region *region = part->region;
	unsigned long i = part - region->parts, pfn;
	unsigned long first = drm_pagemap_part_first(region, i);
	unsigned long last = first + drm_pagemap_part_npages(region, i) - 1;
	void *entry;

	xa_for_each_range(&region->broken, pfn, entry, first, last)
		SetPageHWPoison(pfn_to_page(pfn));
}

/**
 * drm_pagemap_part_in_use() - Whether the part of a page has users
 * @region: The region.
 * @pfn: The page, of @region or not.
 *
 * Context: Any.
 * Return: False if the page is of a part that may have no struct pages.
 */
bool drm_pagemap_part_in_use(const struct drm_pagemap_region *region,
			     unsigned long pfn)
{
	unsigned long i;

	if (!(region->flags & DRM_PAGEMAP_REGION_ON_DEMAND) ||
	    !drm_pagemap_region_has_pfn(region, pfn))
		return true;

	i = drm_pagemap_part_index(region, pfn);
	return READ_ONCE(region->parts[i].users);
}

static int drm_pagemap_part_make(struct drm_pagemap_part *part)
{
	struct drm_pagemap_region *region = part->region;
	unsigned long i = part - region->parts;
	u64 start = PFN_PHYS(drm_pagemap_part_first(region, i));
	u64 size = PFN_PHYS(drm_pagemap_part_npages(region, i));
	unsigned long flags;
	void *addr;

	lockdep_assert_held(&region->make_lock);

	if (!drm_pagemap_inject(DRM_PAGEMAP_STEP_PART, 1))
		return -ENOMEM;

	part->pgmap.type = region->type;
	part->pgmap.owner = region->owner;
	part->pgmap.ops = drm_pagemap_pagemap_ops_get();
	part->pgmap.range.start = start;
	part->pgmap.range.end = start + ALIGN(size, memremap_compat_align()) - 1;
	part->pgmap.nr_range = 1;

	addr = memremap_pages(&part->pgmap, region->nid);
	if (IS_ERR(addr))
		return PTR_ERR(addr);

	drm_pagemap_part_mark_broken(part);
	spin_lock_irqsave(&region->parts_lock, flags);
	part->present = true;
	region->npresent++;
	if (!part->users)
		region->nidle++;
	spin_unlock_irqrestore(&region->parts_lock, flags);

	return 0;
}

/* From here on, the part has no struct pages for anybody. */
static void drm_pagemap_part_hide(struct drm_pagemap_part *part)
{
	struct drm_pagemap_region *region = part->region;

	lockdep_assert_held(&region->make_lock);
	lockdep_assert_held(&region->parts_lock);

	part->present = false;
	region->npresent--;
	if (!part->users)
		region->nidle--;
}

/* Make the part unless it exists, and take a reference. */
static int drm_pagemap_part_require(struct drm_pagemap_part *part)
{
	struct drm_pagemap_region *region = part->region;
	unsigned long i = part - region->parts;
	int err;

	lockdep_assert_held(&region->make_lock);

	/* Set before the last parts are removed, under the lock. */
	if (READ_ONCE(region->unplugged))
		return -ENODEV;
	if (drm_pagemap_parts_tryget(region, i, i))
		return 0;

	err = drm_pagemap_part_make(part);
	if (err)
		return err;

	/* It cannot go before the lock is released. */
	drm_pagemap_parts_tryget(region, i, i);
	return 0;
}

/**
 * drm_pagemap_region_get_pages() - Make sure that pages have a struct page
 * @region: The region.
 * @pfn: The first page.
 * @npages: Number of pages, at least 1.
 *
 * For regions with %DRM_PAGEMAP_REGION_ON_DEMAND; for others, whose struct pages
 * exist from the beginning, nothing is to be done.  Makes those that are
 * missing, and keeps all of them until drm_pagemap_region_put_pages() is called
 * with the same arguments, or parts of the range that add up to it, cut where a
 * part of the region ends.  Does not serialize the users of the pages: that is
 * up to the allocator of the driver.
 *
 * Context: Process context, may sleep.  Takes the locks of CPU and memory
 * hotplug and allocates RAM: the caller must hold neither an mmap lock nor page
 * locks nor a lock that memory reclaim, an mmu notifier or a devmem_release()
 * takes.
 *
 * Return: 0, or, without a reference then,
 *
 * * -EINVAL: not pages of the region.
 * * -ENODEV: the region was unplugged.
 * * -ENOMEM: no memory.
 * * other errors of memremap_pages().
 */
int drm_pagemap_region_get_pages(struct drm_pagemap_region *region,
				 unsigned long pfn, unsigned long npages)
{
	unsigned long first, last, i;
	int err = 0;

	might_sleep();

	if (!npages || !drm_pagemap_region_has_pfn(region, pfn) ||
	    npages > region->npages - (pfn - region->start_pfn))
		return -EINVAL;
	if (!(region->flags & DRM_PAGEMAP_REGION_ON_DEMAND))
		return 0;

	first = drm_pagemap_part_index(region, pfn);
	last = drm_pagemap_part_index(region, pfn + npages - 1);
	if (!READ_ONCE(region->unplugged) &&
	    drm_pagemap_parts_tryget(region, first, last))
		return 0;

	mutex_lock(&region->make_lock);
	for (i = first; i <= last; i++) {
		err = drm_pagemap_part_require(&region->parts[i]);
		if (err)
			break;
	}
	mutex_unlock(&region->make_lock);

	if (err && i > first)
		drm_pagemap_parts_put(region, first, i - 1);
	return err;
}
EXPORT_SYMBOL_GPL(drm_pagemap_region_get_pages);

/**
 * drm_pagemap_region_tryget_pages() - Keep the struct pages that exist
 * @region: The region.
 * @pfn: The first page, of @region.
 * @npages: Number of pages, all of @region, at least 1.
 *
 * As drm_pagemap_region_get_pages(), but never makes any: takes all of them or
 * none.
 *
 * Context: Any, also with pages locked.
 * Return: True if all of them have a struct page, and have a reference now.
 */
bool drm_pagemap_region_tryget_pages(struct drm_pagemap_region *region,
				     unsigned long pfn, unsigned long npages)
{
	if (!(region->flags & DRM_PAGEMAP_REGION_ON_DEMAND))
		return true;

	return drm_pagemap_parts_tryget(region,
					drm_pagemap_part_index(region, pfn),
					drm_pagemap_part_index(region, pfn +
							       npages - 1));
}
EXPORT_SYMBOL_GPL(drm_pagemap_region_tryget_pages);

/**
 * drm_pagemap_region_put_pages() - Struct pages are not needed any more
 * @region: The region; it may be unplugged and its device unbound.
 * @pfn: The first page.
 * @npages: Number of pages, at least 1.
 *
 * Undoes drm_pagemap_region_get_pages() or drm_pagemap_region_tryget_pages().
 * None of the pages may be in use because of this caller, nor may
 * drm_pagemap_evict_to_ram() run on an allocation that has them: a driver calls this
 * as the last reference to the allocation is dropped.  The struct pages stay until
 * memory is short.
 *
 * Context: Any.
 */
void drm_pagemap_region_put_pages(struct drm_pagemap_region *region,
				  unsigned long pfn, unsigned long npages)
{
	if (!(region->flags & DRM_PAGEMAP_REGION_ON_DEMAND))
		return;

	drm_pagemap_parts_put(region, drm_pagemap_part_index(region, pfn),
			      drm_pagemap_part_index(region, pfn + npages - 1));
}
EXPORT_SYMBOL_GPL(drm_pagemap_region_put_pages);

/*
 * Memory reclaim.
 */

/* Choose a part that is to go.  Drivers fill memory from the start. */
static struct drm_pagemap_part *
drm_pagemap_parts_claim(struct drm_pagemap_region *region)
{
	struct drm_pagemap_part *part = NULL;
	unsigned long i, flags;

	spin_lock_irqsave(&region->parts_lock, flags);
	/* Some may have got users since the shrinker asked. */
	region->nreclaim = min(region->nreclaim, region->nidle);
	for (i = region->nparts; region->nreclaim && i--;) {
		if (!region->parts[i].present || region->parts[i].users)
			continue;
		part = &region->parts[i];
		drm_pagemap_part_hide(part);
		region->nreclaim--;
		break;
	}
	spin_unlock_irqrestore(&region->parts_lock, flags);

	return part;
}

/* A driver that puts pages in use has a bug.  Keep them then. */
static bool drm_pagemap_part_is_free(const struct drm_pagemap_part *part)
{
	struct drm_pagemap_region *region = part->region;
	unsigned long i = part - region->parts;
	unsigned long in_use;

	in_use = drm_pagemap_pages_in_use(drm_pagemap_part_first(region, i),
					  drm_pagemap_part_npages(region, i));
	return !WARN_ON_ONCE(in_use);
}

static void drm_pagemap_part_restore(struct drm_pagemap_part *part)
{
	struct drm_pagemap_region *region = part->region;
	unsigned long flags;

	spin_lock_irqsave(&region->parts_lock, flags);
	part->present = true;
	part->users++;
	region->npresent++;
	spin_unlock_irqrestore(&region->parts_lock, flags);
}

static bool drm_pagemap_parts_reclaim_one(struct drm_pagemap_region *region)
{
	struct drm_pagemap_part *part;

	/* Held for one at a time: others may wait to make some. */
	guard(mutex)(&region->make_lock);
	part = drm_pagemap_parts_claim(region);
	if (!part)
		return false;

	/* Waits for releases that are about to end, see drm_pagemap_zdd.pgmap. */
	if (drm_pagemap_part_is_free(part))
		memunmap_pages(&part->pgmap);
	else
		drm_pagemap_part_restore(part);
	return true;
}

static void drm_pagemap_parts_reclaim(struct work_struct *work)
{
	struct drm_pagemap_region *region =
		container_of(work, struct drm_pagemap_region, reclaim_work);

	while (drm_pagemap_parts_reclaim_one(region))
		cond_resched();
}

static unsigned long drm_pagemap_parts_count(struct shrinker *shrinker,
					     struct shrink_control *sc)
{
	struct drm_pagemap_region *region = shrinker->private_data;
	unsigned long idle = READ_ONCE(region->nidle);
	unsigned long queued = READ_ONCE(region->nreclaim);

	return idle > queued ?
	       (idle - queued) * drm_pagemap_part_memmap(region) : 0;
}

/*
 * Have parts without users removed.  The RAM is free a moment later: this may be
 * called by somebody who allocates memory with the locks of memory hotplug, or
 * with @make_lock held.
 */
static unsigned long drm_pagemap_parts_scan(struct shrinker *shrinker,
					    struct shrink_control *sc)
{
	struct drm_pagemap_region *region = shrinker->private_data;
	unsigned long memmap = drm_pagemap_part_memmap(region);
	unsigned long n = 0, flags;

	spin_lock_irqsave(&region->parts_lock, flags);
	if (region->nidle > region->nreclaim)
		n = clamp(sc->nr_to_scan / memmap, 1UL,
			  region->nidle - region->nreclaim);
	WRITE_ONCE(region->nreclaim, region->nreclaim + n);
	spin_unlock_irqrestore(&region->parts_lock, flags);

	if (!n)
		return SHRINK_STOP;

	queue_work(region->reclaim_wq, &region->reclaim_work);
	sc->nr_scanned = n * memmap;
	return n * memmap;
}

static int drm_pagemap_parts_shrinker(struct drm_pagemap_region *region,
				      const char *name)
{
	/* Memory reclaim profits from it, and may not get a new worker. */
	region->reclaim_wq = alloc_ordered_workqueue("drm_pagemap-%s",
						     WQ_MEM_RECLAIM, name);
	if (!region->reclaim_wq)
		return -ENOMEM;

	region->shrinker = shrinker_alloc(0, "drm-pagemap:%s", name);
	if (!region->shrinker)
		return -ENOMEM;

	region->shrinker->count_objects = drm_pagemap_parts_count;
	region->shrinker->scan_objects = drm_pagemap_parts_scan;
	region->shrinker->batch = drm_pagemap_part_memmap(region);
	region->shrinker->private_data = region;
	shrinker_register(region->shrinker);

	return 0;
}

/**
 * drm_pagemap_parts_print() - Print which parts of a region exist
 * @region: The region.
 * @p: Printer.
 *
 * Context: Process context, may sleep.
 */
void drm_pagemap_parts_print(struct drm_pagemap_region *region,
			     struct drm_printer *p)
{
	unsigned long npresent = READ_ONCE(region->npresent);

	if (!(region->flags & DRM_PAGEMAP_REGION_ON_DEMAND))
		return;

	drm_printf(p, "parts: %lu\n", region->nparts);
	drm_printf(p, "parts-present: %lu\n", npresent);
	drm_printf(p, "parts-idle: %lu\n", READ_ONCE(region->nidle));
	drm_printf(p, "memmap: %lu\n",
		   npresent * drm_pagemap_part_memmap(region) << PAGE_SHIFT);
}

/**
 * drm_pagemap_parts_init() - Set up the parts of a region
 * @region: The region, with its range, owner, node and flags.
 * @name: Name for shrinker and work queue.
 *
 * Without %DRM_PAGEMAP_REGION_ON_DEMAND there is one part, which exists on
 * return.
 *
 * Context: Process context, may sleep.
 * Return: 0 or a negative errno.  In any case, drm_pagemap_parts_fini() is to be
 * called in the end.
 */
int drm_pagemap_parts_init(struct drm_pagemap_region *region, const char *name)
{
	bool on_demand = region->flags & DRM_PAGEMAP_REGION_ON_DEMAND;
	unsigned long i;

	/* Index 0 for all pages, whatever their number, if there is one part. */
	region->part_shift = on_demand ? PFN_SECTION_SHIFT : BITS_PER_LONG - 1;
	region->nparts = drm_pagemap_part_index(region, region->start_pfn +
						region->npages - 1) + 1;
	region->parts = kvcalloc(region->nparts, sizeof(*region->parts),
				 GFP_KERNEL);
	if (!region->parts)
		return -ENOMEM;
	for (i = 0; i < region->nparts; i++)
		region->parts[i].region = region;

	if (on_demand)
		return drm_pagemap_parts_shrinker(region, name);

	guard(mutex)(&region->make_lock);
	return drm_pagemap_part_make(&region->parts[0]);
}

static void drm_pagemap_part_remove(struct drm_pagemap_part *part)
{
	struct drm_pagemap_region *region = part->region;
	unsigned long flags;

	if (!part->present)
		return;

	spin_lock_irqsave(&region->parts_lock, flags);
	drm_pagemap_part_hide(part);
	spin_unlock_irqrestore(&region->parts_lock, flags);
	memunmap_pages(&part->pgmap);
}

/**
 * drm_pagemap_parts_fini() - Remove the parts of a region
 * @region: The region, unplugged.  What users remember of it may be given back
 *          later.
 *
 * Waits for the last references to the parts, see &drm_pagemap_zdd.pgmap.
 *
 * Context: Process context, may sleep.
 */
void drm_pagemap_parts_fini(struct drm_pagemap_region *region)
{
	unsigned long i;

	shrinker_free(region->shrinker);
	/* Does what the shrinker has queued, if anything. */
	if (region->reclaim_wq)
		destroy_workqueue(region->reclaim_wq);

	guard(mutex)(&region->make_lock);
	for (i = 0; region->parts && i < region->nparts; i++)
		drm_pagemap_part_remove(&region->parts[i]);
}

/**
 * drm_pagemap_parts_prepare() - Initialize what parts need
 * @region: The region, zeroed.
 *
 * Context: Process context.
 */
void drm_pagemap_parts_prepare(struct drm_pagemap_region *region)
{
	spin_lock_init(&region->parts_lock);
	mutex_init(&region->make_lock);
	xa_init(&region->broken);
	INIT_WORK(&region->reclaim_work, drm_pagemap_parts_reclaim);
}
