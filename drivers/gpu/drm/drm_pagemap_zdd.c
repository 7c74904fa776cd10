// SPDX-License-Identifier: GPL-2.0-only OR MIT

#include <linux/export.h>
#include <linux/init.h>
#include <linux/list.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/wait_bit.h>
#include <linux/workqueue.h>

#include <kunit/static_stub.h>
#include <kunit/visibility.h>

#include <drm/drm_pagemap.h>

#include "drm_pagemap_internal.h"
#include "drm_pagemap_trace.h"

/*
 * The life cycle of an allocation, and arithmetic.  Nothing here needs device
 * pages, so that it also builds without ZONE_DEVICE, for its tests.
 */

static struct workqueue_struct *drm_pagemap_release_wq;

/* Protects the lists, and the number of the next release. */
static DEFINE_SPINLOCK(drm_pagemap_release_lock);
static LIST_HEAD(drm_pagemap_releases_due);
static LIST_HEAD(drm_pagemap_releases_running);
static u64 drm_pagemap_release_seq;

/* Take a release that is due, that of @devmem or any, to run it. */
static struct drm_pagemap_zdd *
drm_pagemap_release_claim(const struct drm_pagemap_devmem *devmem)
{
	struct drm_pagemap_zdd *zdd, *found = NULL;

	spin_lock_irq(&drm_pagemap_release_lock);
	list_for_each_entry(zdd, &drm_pagemap_releases_due, release) {
		if (devmem && zdd->devmem != devmem)
			continue;
		list_move_tail(&zdd->release, &drm_pagemap_releases_running);
		found = zdd;
		break;
	}
	spin_unlock_irq(&drm_pagemap_release_lock);

	return found;
}

static void drm_pagemap_release_run(struct drm_pagemap_zdd *zdd)
{
	struct drm_pagemap_devmem *devmem = zdd->devmem;

	trace_drm_pagemap_release(devmem);
	devmem->ops->devmem_release(devmem);

	spin_lock_irq(&drm_pagemap_release_lock);
	list_del(&zdd->release);
	spin_unlock_irq(&drm_pagemap_release_lock);
	wake_up_var(&drm_pagemap_releases_running);

	/* The driver, and its memory, may go away from here on. */
	put_dev_pagemap(zdd->pgmap);
	kfree(zdd);
}

static void drm_pagemap_release_func(struct work_struct *work)
{
	struct drm_pagemap_zdd *zdd;

	while ((zdd = drm_pagemap_release_claim(NULL)))
		drm_pagemap_release_run(zdd);
}

static DECLARE_WORK(drm_pagemap_release_work, drm_pagemap_release_func);

static bool drm_pagemap_release_is_running(const struct drm_pagemap_devmem *devmem)
{
	struct drm_pagemap_zdd *zdd;
	bool running = false;

	spin_lock_irq(&drm_pagemap_release_lock);
	list_for_each_entry(zdd, &drm_pagemap_releases_running, release)
		running |= zdd->devmem == devmem;
	spin_unlock_irq(&drm_pagemap_release_lock);

	return running;
}

/**
 * drm_pagemap_release_wait() - Have an allocation released now
 * @devmem: An allocation that is detached; the caller holds a reference.
 *
 * Runs the release if it is due, rather than wait for the work item, which may
 * be busy with the releases of other drivers, which take locks of their own.
 *
 * Context: Process context, may sleep.
 */
void drm_pagemap_release_wait(const struct drm_pagemap_devmem *devmem)
{
	struct drm_pagemap_zdd *zdd = drm_pagemap_release_claim(devmem);

	if (zdd)
		drm_pagemap_release_run(zdd);
	else
		wait_var_event(&drm_pagemap_releases_running,
			       !drm_pagemap_release_is_running(devmem));
}

/* Whether all releases with a number below @seq are over. */
static bool drm_pagemap_release_is_past(u64 seq)
{
	struct drm_pagemap_zdd *zdd;
	bool past;

	spin_lock_irq(&drm_pagemap_release_lock);
	zdd = list_first_entry_or_null(&drm_pagemap_releases_due,
				       struct drm_pagemap_zdd, release);
	past = !zdd || zdd->seq >= seq;
	list_for_each_entry(zdd, &drm_pagemap_releases_running, release)
		past &= zdd->seq >= seq;
	spin_unlock_irq(&drm_pagemap_release_lock);

	return past;
}

/**
 * drm_pagemap_release_flush() - Wait for the deferred releases
 *
 * On return, devmem_release() has returned for every allocation whose last
 * device page was freed before the call.
 *
 * A driver has no need of it when its device goes away: a release that is due
 * keeps the struct dev_pagemap of its pages, so that memunmap_pages() waits.
 *
 * Context: Process context, may sleep.  Not under a lock that a
 * devmem_release() takes, and not from one.
 */
void drm_pagemap_release_flush(void)
{
	u64 seq;

	spin_lock_irq(&drm_pagemap_release_lock);
	seq = drm_pagemap_release_seq;
	spin_unlock_irq(&drm_pagemap_release_lock);

	wait_var_event(&drm_pagemap_releases_running,
		       drm_pagemap_release_is_past(seq));
}
EXPORT_SYMBOL_GPL(drm_pagemap_release_flush);

/**
 * drm_pagemap_inject() - Let tests fail a step
 * @step: The step.
 * @n: Number of things the step asks for.
 *
 * Context: Any that @step runs in.
 * Return: The number of things the step may have: @n, unless a KUnit case says
 * otherwise.
 */
unsigned long drm_pagemap_inject(enum drm_pagemap_step step, unsigned long n)
{
	KUNIT_STATIC_STUB_REDIRECT(drm_pagemap_inject, step, n);

	return n;
}
EXPORT_SYMBOL_IF_KUNIT(drm_pagemap_inject);

/**
 * drm_pagemap_zdd_create() - Make the shared data of an allocation's pages
 * @devmem: The allocation.
 * @owner: Owner cookie of the device-private pages.
 *
 * Context: Process context, may sleep.
 * Return: The data with one reference, or NULL without memory.
 */
struct drm_pagemap_zdd *
drm_pagemap_zdd_create(struct drm_pagemap_devmem *devmem, void *owner)
{
	struct drm_pagemap_zdd *zdd;

	if (!drm_pagemap_inject(DRM_PAGEMAP_STEP_ZDD, 1))
		return NULL;

	zdd = kzalloc(sizeof(*zdd), GFP_KERNEL_ACCOUNT);
	if (!zdd)
		return NULL;

	kref_init(&zdd->refcount);
	zdd->devmem = devmem;
	zdd->owner = owner;

	return zdd;
}
EXPORT_SYMBOL_IF_KUNIT(drm_pagemap_zdd_create);

/**
 * drm_pagemap_zdd_get_many() - Take references for several pages at once
 * @zdd: The data; the caller holds a reference.
 * @n: Number of references.
 *
 * Context: Any.
 */
void drm_pagemap_zdd_get_many(struct drm_pagemap_zdd *zdd, unsigned int n)
{
	if (n)
		refcount_add(n, &zdd->refcount.refcount);
}
EXPORT_SYMBOL_IF_KUNIT(drm_pagemap_zdd_get_many);

static void drm_pagemap_zdd_detach(struct kref *ref)
{
	struct drm_pagemap_zdd *zdd = container_of(ref, struct drm_pagemap_zdd,
						   refcount);
	struct drm_pagemap_devmem *devmem = zdd->devmem;
	struct dev_pagemap *pgmap = zdd->pgmap;
	unsigned long flags;

	if (devmem->ops->devmem_release) {
		/*
		 * A waiter that the completion wakes must find the release.
		 * The release ends the life of @devmem, so that it must not run
		 * before the completion is through.
		 */
		spin_lock_irqsave(&drm_pagemap_release_lock, flags);
		zdd->seq = drm_pagemap_release_seq++;
		list_add_tail(&zdd->release, &drm_pagemap_releases_due);
		complete_all(&devmem->detached);
		spin_unlock_irqrestore(&drm_pagemap_release_lock, flags);
		queue_work(drm_pagemap_release_wq, &drm_pagemap_release_work);
		return;
	}

	kfree(zdd);
	/* A waiter may free @devmem at once: no access after this. */
	complete_all(&devmem->detached);
	put_dev_pagemap(pgmap);
}

/**
 * drm_pagemap_zdd_put() - Drop a reference
 * @zdd: The data.
 *
 * The last one completes &drm_pagemap_devmem.detached and leaves the call of
 * devmem_release() to a work item: pages are freed under page table locks.
 *
 * Context: Any, also with interrupts off or spinlocks held.  With PREEMPT_RT,
 * where a spinlock may be taken: nowhere else are pages freed there.
 */
void drm_pagemap_zdd_put(struct drm_pagemap_zdd *zdd)
{
	kref_put(&zdd->refcount, drm_pagemap_zdd_detach);
}
EXPORT_SYMBOL_IF_KUNIT(drm_pagemap_zdd_put);

/**
 * drm_pagemap_zdd_put_many() - Drop the references of several pages at once
 * @zdd: The data.
 * @n: Number of references.
 *
 * As drm_pagemap_zdd_put().
 *
 * Context: That of drm_pagemap_zdd_put().
 */
void drm_pagemap_zdd_put_many(struct drm_pagemap_zdd *zdd, unsigned int n)
{
	if (refcount_sub_and_test(n, &zdd->refcount.refcount))
		drm_pagemap_zdd_detach(&zdd->refcount);
}

/**
 * drm_pagemap_zdd_disarm() - Free the data without releasing the allocation
 * @zdd: The data; the caller holds a reference.
 *
 * For a migration that failed, whose caller keeps the allocation.
 *
 * Context: Any.
 * Return: True if the caller's reference was the only one, and @zdd is gone.
 */
bool drm_pagemap_zdd_disarm(struct drm_pagemap_zdd *zdd)
{
	if (!refcount_dec_if_one(&zdd->refcount.refcount))
		return false;

	put_dev_pagemap(zdd->pgmap);
	kfree(zdd);
	return true;
}
EXPORT_SYMBOL_IF_KUNIT(drm_pagemap_zdd_disarm);

/**
 * drm_pagemap_fault_window() - The range that a CPU fault brings back
 * @addr: The faulting address, page aligned or not.
 * @index: Index, in pages, of the faulting page in the migrated range.
 * @npages: Number of pages of the migrated range.
 * @window: Size of a window in bytes, 0 for the whole range.
 * @vm_start: Start of the VMA.
 * @vm_end: End of the VMA, exclusive.
 *
 * The range is cut into windows from its start on, wherever in the address
 * space it is now; the one with the faulting page is brought back as far as it
 * is inside the VMA.  A page that is not part of the range is brought back
 * alone.
 *
 * Context: Any.
 * Return: The window, which always contains the faulting page.
 */
struct drm_pagemap_window
drm_pagemap_fault_window(unsigned long addr, unsigned long index,
			 unsigned long npages, unsigned long window,
			 unsigned long vm_start, unsigned long vm_end)
{
	unsigned long page = addr & PAGE_MASK;
	unsigned long before, after, first, size;

	if (index >= npages)
		return (struct drm_pagemap_window) { page, page + PAGE_SIZE };

	size = window >> PAGE_SHIFT;
	if (offset_in_page(window))
		size++;
	if (!size || size > npages)
		size = npages;

	first = rounddown(index, size);
	before = min(index - first, (page - vm_start) >> PAGE_SHIFT);
	after = min(min(size, npages - first) - (index - first),
		    (vm_end - page) >> PAGE_SHIFT);

	return (struct drm_pagemap_window) {
		.start = page - (before << PAGE_SHIFT),
		.end = page + (after << PAGE_SHIFT),
	};
}
EXPORT_SYMBOL_IF_KUNIT(drm_pagemap_fault_window);

/**
 * drm_pagemap_devmem_init() - Initialize an allocation
 * @devmem_allocation: The allocation, embedded in the driver's object.
 * @dev: The device that copies.
 * @mm: The address space it is made for, see &drm_pagemap_devmem.mm.
 * @ops: The driver's operations.
 * @dpagemap: The memory it is part of.
 * @size: Size in bytes, a multiple of PAGE_SIZE.
 *
 * Every member is set, so the allocation need not be zeroed.  An allocation
 * that was migrated to successfully must be initialized again before it is
 * used for another migration.
 *
 * Context: Any.
 */
void drm_pagemap_devmem_init(struct drm_pagemap_devmem *devmem_allocation,
			     struct device *dev, struct mm_struct *mm,
			     const struct drm_pagemap_devmem_ops *ops,
			     struct drm_pagemap *dpagemap, size_t size)
{
	*devmem_allocation = (struct drm_pagemap_devmem) {
		.dev = dev,
		.mm = mm,
		.ops = ops,
		.dpagemap = dpagemap,
		.size = size,
	};
	init_completion(&devmem_allocation->detached);
}
EXPORT_SYMBOL_GPL(drm_pagemap_devmem_init);

static int __init drm_pagemap_init(void)
{
	/* Memory is reclaimed by what the releases give back. */
	drm_pagemap_release_wq = alloc_workqueue("drm_pagemap",
						 WQ_MEM_RECLAIM | WQ_UNBOUND,
						 0);
	return drm_pagemap_release_wq ? 0 : -ENOMEM;
}
subsys_initcall(drm_pagemap_init);

static void __exit drm_pagemap_exit(void)
{
	drm_pagemap_release_flush();
	destroy_workqueue(drm_pagemap_release_wq);
}
module_exit(drm_pagemap_exit);

MODULE_DESCRIPTION("DRM pagemap helpers");
MODULE_LICENSE("Dual MIT/GPL");
