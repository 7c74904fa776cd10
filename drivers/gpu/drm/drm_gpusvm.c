// SPDX-License-Identifier: GPL-2.0-only OR MIT

#include <linux/align.h>
#include <linux/export.h>
#include <linux/hmm.h>
#include <linux/hugetlb.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include <kunit/visibility.h>

#include <drm/drm_device.h>
#include <drm/drm_gpusvm.h>

#include "drm_gpusvm_internal.h"

/**
 * DOC: Overview
 *
 * GPU SVM lets a GPU use the memory of a process at the process's own
 * addresses: everything that the process has allocated, in RAM or in device
 * memory.
 *
 * The helper divides the address space into slots, each with a *notifier* that
 * reports changes of the process's mappings, and populates the slots with
 * *ranges* as the GPU faults.  A range is the unit of mapping.  It has one of
 * the driver's chunk sizes, is aligned to its size, and never crosses the
 * boundary of a VMA or a slot.  drm_gpusvm_range_get_pages() makes the pages of
 * a range present and returns their addresses for the device, from which the
 * driver builds the GPU's translations.  When the process's mappings change,
 * &drm_gpusvm_ops.invalidate tears these down.
 *
 * Migration is left to the driver, which may move the memory of a range to the
 * device with drm_pagemap_populate_mm() before it gets the pages.  Pages that
 * are there already, or cannot move, are mapped where they are.  Only drivers
 * that set &drm_gpusvm_ctx.allow_mixed get ranges with pages in both places.
 *
 * Terms: an *end* is exclusive, *npages* counts pages of PAGE_SIZE, other sizes
 * are in bytes.  To *map* a page is to make it accessible to the device, to
 * *bind* a range is to write the GPU's page table, to *zap* it is to clear the
 * latter.  To *evict* a range is to bring its pages back to RAM.
 */

/**
 * DOC: Life cycle
 *
 * struct drm_gpusvm is embedded in the driver's own object and shares its
 * lifetime.  It holds mm_count, not mm_users: when the process exits, every
 * range is invalidated, and calls that need the address space fail with
 * -EFAULT.
 *
 * A notifier is created with the first range of its slot and goes with the
 * last.  A range stays until drm_gpusvm_range_remove(), however often it is
 * mapped and invalidated meanwhile.  A driver that uses a range without holding
 * its own lock takes a reference; if it then finds
 * &drm_gpusvm_range_flags.unmapped set, the range is of no use any more.
 *
 * When the process unmaps memory of a range, the invalidate callback calls
 * drm_gpusvm_range_set_unmapped().  It cannot remove the range itself, so it
 * queues it for later.  If only a part was unmapped, the range is evicted and
 * removed as a whole, and the next fault replaces it by smaller ones.
 */

/**
 * DOC: Locking
 *
 * ========================== =========== ======================================
 * Lock                       Mode        Protects
 * ========================== =========== ======================================
 * the driver's lock          exclusive   insertion and removal of ranges and
 *                                        notifiers
 *                            any         ranges from being removed: held to
 *                                        look up, map or evict them
 * mmap lock                  read        VMAs; taken by the helper
 * the notifier lock          write       the state of ranges while mappings of
 *                                        the process change: held for the
 *                                        invalidate callback
 *                            read        ranges from being invalidated: held to
 *                                        map, bind, insert or remove them
 * the range's own lock       exclusive   the mappings of a range, among holders
 *                                        of the notifier lock for reading
 * ========================== =========== ======================================
 *
 * The order is the driver's lock, mmap lock, &drm_gpusvm.notifier_lock, the
 * range's own lock, the driver's locks for its page tables.
 *
 * &drm_gpusvm.notifier_lock looks upside down: the lists of ranges are changed
 * under it held for reading.  That is enough: the driver's lock serializes such
 * changes, which leaves only the invalidate callback to be kept out, and that
 * is the writer.  As the writer it runs alone and may change anything.
 *
 * Invalidation may come from memory reclaim.  Therefore allocations under
 * &drm_gpusvm.notifier_lock must not enter reclaim, and the invalidate callback
 * must not take the driver's lock.  Lockdep checks both if the driver names its
 * lock with drm_gpusvm_driver_set_lock().
 */

/**
 * DOC: Races
 *
 * No lock keeps the process's mappings, or the location of its pages, from
 * changing.  Pages that were looked up are checked again under
 * &drm_gpusvm.notifier_lock, and looked up again if they changed.  Every such
 * loop has a deadline, so a process that keeps changing its memory gets an
 * error rather than the CPU.  The driver does the same between mapping and
 * binding a range, with drm_gpusvm_range_pages_valid().
 *
 * No new try begins after the deadline, but a try is not cut short.  It may
 * sleep for longer: in a page fault, for I/O and the like, and in
 * mmu_interval_read_begin(), for invalidations.  The latter does not wait for
 * invalidations to come; but if one that the notifier was told of is under way,
 * it waits until there is none in the whole address space.  The locks held
 * meanwhile, the driver's and the mmap lock for reading, are not needed to
 * finish an invalidation, so the wait ends.  Only threads that invalidate
 * without a gap, be it elsewhere in the address space, can prolong it.  Signals
 * do not interrupt it.
 *
 * Pages of a process are shared after fork(), in device memory as in RAM.  Only
 * pages that the process itself may write are mapped for writing.
 *
 * Eviction of device memory with drm_pagemap_evict_to_ram() works on pages.  It
 * knows neither processes nor ranges, and reaches those that map the pages
 * through their notifiers.
 */

/**
 * DOC: Accounting
 *
 * The memory of a range, mostly its array of addresses with 8 KiB for each
 * 2 MiB on most machines, is charged to the memory cgroup of the calling task,
 * or to that set by set_active_memcg().  User space decides how much of it is
 * needed, so a driver that serves GPU faults in a worker sets the cgroup of the
 * process, and allocates its own objects per notifier and per range with
 * %GFP_KERNEL_ACCOUNT, too.
 */

/**
 * DOC: Drivers
 *
 * The following driver is part of the unit tests.  Errors worth another try are
 * -EAGAIN, if the range changed before it was bound, -EOPNOTSUPP after an
 * eviction, and -EFAULT and -EPERM, which may be due to a change of the
 * process's mappings that has marked the range as garbage.
 */

/* Milliseconds after which retry loops give up. */
#define DRM_GPUSVM_TIMEOUT_MS	HMM_RANGE_DEFAULT_TIMEOUT

static struct drm_gpusvm_notifier *
to_drm_gpusvm_notifier(struct interval_tree_node *node)
{
	return container_of(node, struct drm_gpusvm_notifier, itree);
}

static struct drm_gpusvm_range *
to_drm_gpusvm_range(struct interval_tree_node *node)
{
	return container_of(node, struct drm_gpusvm_range, itree);
}

static struct interval_tree_node *
drm_gpusvm_itree_prev(struct interval_tree_node *node)
{
	return rb_entry_safe(rb_prev(&node->rb), struct interval_tree_node, rb);
}

/**
 * drm_gpusvm_slot() - The slot of the notifier that watches an address
 * @gpusvm: The struct drm_gpusvm.
 * @addr: An address that is mirrored.
 *
 * Context: Any.
 * Return: The slot: aligned to the size of a notifier, except at the edges of
 * the mirrored addresses.
 */
struct drm_gpusvm_span
drm_gpusvm_slot(const struct drm_gpusvm *gpusvm, unsigned long addr)
{
	unsigned long start = ALIGN_DOWN(addr, gpusvm->notifier_size);
	unsigned long mm_end = gpusvm->mm_start + gpusvm->mm_range;

	return (struct drm_gpusvm_span) {
		.start = max(start, gpusvm->mm_start),
		/* The end of the last slot may be more than a long can hold. */
		.end = mm_end - start > gpusvm->notifier_size ?
		       start + gpusvm->notifier_size : mm_end,
	};
}
EXPORT_SYMBOL_IF_KUNIT(drm_gpusvm_slot);

/**
 * drm_gpusvm_chunk_fits() - Whether a chunk stays within bounds
 * @size: Size of the chunk in bytes, a power of two.
 * @addr: Address that the chunk contains.
 * @bounds: The bounds; @addr is in them.
 * @chunk: Out: the chunk, aligned to its size.
 *
 * Context: Any.
 * Return: True if @chunk is in @bounds and consists of pages.
 */
bool drm_gpusvm_chunk_fits(unsigned long size, unsigned long addr,
			   struct drm_gpusvm_span bounds,
			   struct drm_gpusvm_span *chunk)
{
	chunk->start = ALIGN_DOWN(addr, size);
	chunk->end = chunk->start + size;

	return size >= PAGE_SIZE && chunk->start >= bounds.start &&
	       size <= bounds.end - chunk->start;
}
EXPORT_SYMBOL_IF_KUNIT(drm_gpusvm_chunk_fits);

/*
 * Notifiers.
 */

/*
 * Runs before the process's mappings change.  Ranges become invalid even if the
 * driver leaves them mapped.
 */
static bool
drm_gpusvm_notifier_invalidate(struct mmu_interval_notifier *mni,
			       const struct mmu_notifier_range *mmu_range,
			       unsigned long cur_seq)
{
	struct drm_gpusvm_notifier *notifier =
		container_of(mni, struct drm_gpusvm_notifier, notifier);
	struct drm_gpusvm *gpusvm = notifier->gpusvm;
	struct drm_gpusvm_range *range = NULL;

	if (!mmu_notifier_range_blockable(mmu_range))
		return false;

	down_write(&gpusvm->notifier_lock);
	mmu_interval_set_seq(mni, cur_seq);
	/* A driver may zap only what is still valid. */
	gpusvm->ops->invalidate(gpusvm, notifier, mmu_range);
	drm_gpusvm_for_each_range(range, notifier, mmu_range->start,
				  mmu_range->end)
		drm_gpusvm_range_set_stale(range);
	up_write(&gpusvm->notifier_lock);

	return true;
}

static const struct mmu_interval_notifier_ops drm_gpusvm_notifier_ops = {
	.invalidate = drm_gpusvm_notifier_invalidate,
};

static struct drm_gpusvm_notifier *
drm_gpusvm_notifier_find(struct drm_gpusvm *gpusvm, unsigned long addr)
{
	struct interval_tree_node *node;

	drm_gpusvm_driver_lock_held(gpusvm, -1);

	node = interval_tree_iter_first(&gpusvm->root, addr, addr);

	return node ? to_drm_gpusvm_notifier(node) : NULL;
}

static void drm_gpusvm_notifier_free(struct drm_gpusvm *gpusvm,
				     struct drm_gpusvm_notifier *notifier)
{
	if (gpusvm->ops->notifier_free)
		gpusvm->ops->notifier_free(notifier);
	else
		kfree(notifier);
}

static struct drm_gpusvm_notifier *
drm_gpusvm_notifier_alloc(struct drm_gpusvm *gpusvm, unsigned long addr)
{
	struct drm_gpusvm_span slot = drm_gpusvm_slot(gpusvm, addr);
	struct drm_gpusvm_notifier *notifier;

	if (drm_gpusvm_inject(gpusvm, DRM_GPUSVM_STEP_NOTIFIER))
		return NULL;

	if (gpusvm->ops->notifier_alloc)
		notifier = gpusvm->ops->notifier_alloc();
	else
		notifier = kmalloc(sizeof(*notifier), GFP_KERNEL_ACCOUNT);
	if (!notifier)
		return NULL;

	memset(notifier, 0, sizeof(*notifier));
	notifier->gpusvm = gpusvm;
	notifier->itree.start = slot.start;
	notifier->itree.last = slot.end - 1;
	notifier->root = RB_ROOT_CACHED;
	INIT_LIST_HEAD(&notifier->entry);
	INIT_LIST_HEAD(&notifier->range_list);

	return notifier;
}

/*
 * Find or register the notifier of the slot of @addr.  Not under the mmap lock,
 * which registration may take for writing.
 */
static struct drm_gpusvm_notifier *
drm_gpusvm_notifier_find_or_add(struct drm_gpusvm *gpusvm, unsigned long addr)
{
	struct drm_gpusvm_notifier *notifier;
	struct interval_tree_node *prev;
	int err;

	drm_gpusvm_driver_lock_held(gpusvm, 0);

	notifier = drm_gpusvm_notifier_find(gpusvm, addr);
	if (notifier)
		return notifier;

	notifier = drm_gpusvm_notifier_alloc(gpusvm, addr);
	if (!notifier)
		return ERR_PTR(-ENOMEM);

	err = mmu_interval_notifier_insert(&notifier->notifier, gpusvm->mm,
					   drm_gpusvm_notifier_start(notifier),
					   drm_gpusvm_notifier_size(notifier),
					   &drm_gpusvm_notifier_ops);
	if (err) {
		drm_gpusvm_notifier_free(gpusvm, notifier);
		return ERR_PTR(err);
	}

	interval_tree_insert(&notifier->itree, &gpusvm->root);
	prev = drm_gpusvm_itree_prev(&notifier->itree);
	list_add(&notifier->entry, prev ? &to_drm_gpusvm_notifier(prev)->entry :
					  &gpusvm->notifier_list);

	return notifier;
}

/* Stop watching.  Waits for invalidations, so not under the notifier lock. */
static void drm_gpusvm_notifier_unregister(struct drm_gpusvm_notifier *notifier)
{
	drm_gpusvm_driver_lock_held(notifier->gpusvm, 0);
	lockdep_assert_not_held(&notifier->gpusvm->notifier_lock);

	mmu_interval_notifier_remove(&notifier->notifier);
	notifier->flags.removed = true;
}

/* Remove a notifier if it has no range. */
static void drm_gpusvm_notifier_prune(struct drm_gpusvm *gpusvm,
				      struct drm_gpusvm_notifier *notifier)
{
	drm_gpusvm_driver_lock_held(gpusvm, 0);

	if (!RB_EMPTY_ROOT(&notifier->root.rb_root))
		return;

	drm_gpusvm_notifier_unregister(notifier);
	interval_tree_remove(&notifier->itree, &gpusvm->root);
	list_del(&notifier->entry);
	drm_gpusvm_notifier_free(gpusvm, notifier);
}

/*
 * Ranges.
 */

static struct drm_gpusvm_range *
drm_gpusvm_range_alloc(struct drm_gpusvm *gpusvm,
		       struct drm_gpusvm_notifier *notifier,
		       struct drm_gpusvm_span chunk, bool migrate_devmem)
{
	struct drm_gpusvm_range *range;

	if (drm_gpusvm_inject(gpusvm, DRM_GPUSVM_STEP_RANGE))
		return NULL;

	if (gpusvm->ops->range_alloc)
		range = gpusvm->ops->range_alloc(gpusvm);
	else
		range = kmalloc(sizeof(*range), GFP_KERNEL_ACCOUNT);
	if (!range)
		return NULL;

	memset(range, 0, sizeof(*range));
	range->gpusvm = gpusvm;
	range->notifier = notifier;
	kref_init(&range->refcount);
	range->itree.start = chunk.start;
	range->itree.last = chunk.end - 1;
	INIT_LIST_HEAD(&range->entry);
	range->notifier_seq = LONG_MAX;
	range->flags.migrate_devmem = migrate_devmem;
	mutex_init(&range->map_lock);

	return range;
}

static void drm_gpusvm_range_insert(struct drm_gpusvm_notifier *notifier,
				    struct drm_gpusvm_range *range)
{
	struct interval_tree_node *prev;

	drm_gpusvm_driver_lock_held(notifier->gpusvm, 0);
	lockdep_assert_held(&notifier->gpusvm->notifier_lock);

	interval_tree_insert(&range->itree, &notifier->root);
	prev = drm_gpusvm_itree_prev(&range->itree);
	list_add(&range->entry, prev ? &to_drm_gpusvm_range(prev)->entry :
				       &notifier->range_list);
}

/*
 * Whether every page of a chunk is present, without faulting any.  Such a walk
 * needs no notifier, only the mm: a page that comes or goes at the same time
 * makes the choice of a chunk neither right nor wrong.
 */
static bool drm_gpusvm_chunk_present(struct drm_gpusvm *gpusvm,
				     struct drm_gpusvm_span chunk)
{
	unsigned long i, npages = (chunk.end - chunk.start) >> PAGE_SHIFT;
	struct mmu_interval_notifier nobody = { .mm = gpusvm->mm };
	struct hmm_range walk = {
		.notifier = &nobody,
		.start = chunk.start,
		.end = chunk.end,
		.dev_private_owner = gpusvm->device_private_page_owner,
	};
	bool present = false;

	mmap_assert_locked(gpusvm->mm);

	if (!drm_gpusvm_inject(gpusvm, DRM_GPUSVM_STEP_PFNS))
		walk.hmm_pfns = kvmalloc_array(npages, sizeof(*walk.hmm_pfns),
					       GFP_KERNEL_ACCOUNT);
	if (!walk.hmm_pfns)
		return false;

	if (!hmm_range_fault(&walk)) {
		for (i = 0; i < npages; i++)
			if (!(walk.hmm_pfns[i] & HMM_PFN_VALID))
				break;
		present = i == npages;
	}
	kvfree(walk.hmm_pfns);

	return present;
}

/*
 * Choose the largest chunk around @addr that is in @bounds and overlaps no
 * other range.  Those up to @threshold have to be present.  Returns 0, or
 * -EINVAL if there is none.
 */
static int drm_gpusvm_choose_chunk(struct drm_gpusvm *gpusvm,
				   struct drm_gpusvm_notifier *notifier,
				   unsigned long addr,
				   struct drm_gpusvm_span bounds,
				   unsigned long threshold,
				   struct drm_gpusvm_span *chunk)
{
	struct drm_gpusvm_span try;
	unsigned long size;
	int i, err = -EINVAL;

	for (i = 0; i < gpusvm->num_chunks; i++) {
		size = gpusvm->chunk_sizes[i];
		if (!drm_gpusvm_chunk_fits(size, addr, bounds, &try) ||
		    drm_gpusvm_range_find(notifier, try.start, try.end))
			continue;

		/* If none is present, the smallest serves the fault. */
		*chunk = try;
		err = 0;
		if (size > threshold || drm_gpusvm_chunk_present(gpusvm, try))
			break;
	}

	return err;
}

/* Find or insert the range of @addr.  The mmap lock keeps the VMA stable. */
static struct drm_gpusvm_range *
drm_gpusvm_range_add(struct drm_gpusvm_notifier *notifier, unsigned long addr,
		     struct drm_gpusvm_span gpuva,
		     const struct drm_gpusvm_ctx *ctx)
{
	struct drm_gpusvm *gpusvm = notifier->gpusvm;
	struct drm_gpusvm_span bounds, chunk;
	struct drm_gpusvm_range *range;
	struct vm_area_struct *vma;
	bool migrate_devmem;
	int err;

	mmap_assert_locked(gpusvm->mm);

	vma = vma_lookup(gpusvm->mm, addr);
	if (!vma)
		return ERR_PTR(-ENOENT);
	if (!ctx->read_only && !drm_gpusvm_vma_writable(vma))
		return ERR_PTR(-EPERM);

	range = drm_gpusvm_range_find(notifier, addr, addr + 1);
	if (range)
		return range;

	bounds.start = max3(gpuva.start, vma->vm_start,
			    drm_gpusvm_notifier_start(notifier));
	bounds.end = min3(gpuva.end, vma->vm_end,
			  drm_gpusvm_notifier_end(notifier));
	err = drm_gpusvm_choose_chunk(gpusvm, notifier, addr, bounds,
				      ctx->check_pages_threshold, &chunk);
	if (err)
		return ERR_PTR(err);

	migrate_devmem = ctx->devmem_possible && vma_is_anonymous(vma) &&
			 !is_vm_hugetlb_page(vma);
	range = drm_gpusvm_range_alloc(gpusvm, notifier, chunk, migrate_devmem);
	if (!range)
		return ERR_PTR(-ENOMEM);

	drm_gpusvm_notifier_lock(gpusvm);
	drm_gpusvm_range_insert(notifier, range);
	drm_gpusvm_notifier_unlock(gpusvm);

	return range;
}

/*
 * Take a range out of its notifier, which may be left with none.  The driver
 * may hold a reference to the range, so it is marked as of no use.
 */
static void drm_gpusvm_range_detach(struct drm_gpusvm_range *range)
{
	struct drm_gpusvm_notifier *notifier = range->notifier;
	struct drm_gpusvm *gpusvm = range->gpusvm;
	struct drm_pagemap_device_addr *dma_addr;
	struct drm_gpusvm_range_flags flags;

	drm_gpusvm_driver_lock_held(gpusvm, 0);

	drm_gpusvm_notifier_lock(gpusvm);
	mutex_lock(&range->map_lock);
	drm_gpusvm_unmap_locked(range);
	dma_addr = range->dma_addr;
	range->dma_addr = NULL;
	flags = drm_gpusvm_range_flags(range);
	flags.unmapped = true;
	drm_gpusvm_range_set_flags(range, flags);
	mutex_unlock(&range->map_lock);

	interval_tree_remove(&range->itree, &notifier->root);
	list_del(&range->entry);
	drm_gpusvm_notifier_unlock(gpusvm);

	kvfree(dma_addr);
	drm_gpusvm_range_put(range);
}

/*
 * Interface.
 */

static bool drm_gpusvm_chunks_ok(const unsigned long *chunk_sizes,
				 int num_chunks, unsigned long notifier_size)
{
	bool usable = false;
	int i;

	if (!chunk_sizes || num_chunks <= 0)
		return false;

	for (i = 0; i < num_chunks; i++) {
		if (!is_power_of_2(chunk_sizes[i]) ||
		    (i && chunk_sizes[i] >= chunk_sizes[i - 1]))
			return false;
		/* Other sizes are never chosen. */
		usable |= chunk_sizes[i] >= PAGE_SIZE &&
			  chunk_sizes[i] <= notifier_size;
	}

	return usable;
}

/**
 * drm_gpusvm_init() - Set up a struct drm_gpusvm
 * @gpusvm: The struct; need not be zeroed.
 * @name: Name, for messages.  Not copied.
 * @drm: The device that the pages are mapped for.
 * @mm: The address space.  The caller keeps its reference.
 * @device_private_page_owner: Owner cookie of the device-private pages that the
 *                             device can access.
 * @mm_start: First address to mirror, page aligned.
 * @mm_range: Size in bytes of the addresses to mirror, page aligned.
 * @notifier_size: Size in bytes of the notifiers' slots, a power of two, not
 *                 less than a page.
 * @ops: The driver's operations.  Not copied.
 * @chunk_sizes: Sizes in bytes that ranges may have: powers of two, descending.
 *               Sizes less than a page or larger than @notifier_size are never
 *               used, but there must be at least one other.  Not copied.
 * @num_chunks: Entries of @chunk_sizes.
 *
 * Undone by drm_gpusvm_fini().
 *
 * Context: Process context, may sleep.
 *
 * Return: 0, or
 *
 * * -EINVAL: an argument is not as described.
 */
int drm_gpusvm_init(struct drm_gpusvm *gpusvm,
		    const char *name, struct drm_device *drm,
		    struct mm_struct *mm, void *device_private_page_owner,
		    unsigned long mm_start, unsigned long mm_range,
		    unsigned long notifier_size,
		    const struct drm_gpusvm_ops *ops,
		    const unsigned long *chunk_sizes, int num_chunks)
{
	unsigned long mm_end;

	if (!mm || !ops || !ops->invalidate)
		return -EINVAL;
	if (!mm_range || !PAGE_ALIGNED(mm_start) || !PAGE_ALIGNED(mm_range) ||
	    check_add_overflow(mm_start, mm_range, &mm_end))
		return -EINVAL;
	if (!is_power_of_2(notifier_size) || notifier_size < PAGE_SIZE ||
	    !drm_gpusvm_chunks_ok(chunk_sizes, num_chunks, notifier_size))
		return -EINVAL;

	*gpusvm = (struct drm_gpusvm) {
		.name = name,
		.drm = drm,
		.mm = mm,
		.device_private_page_owner = device_private_page_owner,
		.mm_start = mm_start,
		.mm_range = mm_range,
		.notifier_size = notifier_size,
		.ops = ops,
		.chunk_sizes = chunk_sizes,
		.num_chunks = num_chunks,
		.root = RB_ROOT_CACHED,
		.notifier_list = LIST_HEAD_INIT(gpusvm->notifier_list),
		.timeout_ms = DRM_GPUSVM_TIMEOUT_MS,
	};
	mmgrab(mm);
	init_rwsem(&gpusvm->notifier_lock);

	/* Reclaim invalidates mappings: let lockdep know before it happens. */
	fs_reclaim_acquire(GFP_KERNEL);
	might_lock(&gpusvm->notifier_lock);
	fs_reclaim_release(GFP_KERNEL);

	return 0;
}
EXPORT_SYMBOL_GPL(drm_gpusvm_init);

/**
 * drm_gpusvm_free() - Remove all ranges and notifiers
 * @gpusvm: The struct drm_gpusvm.
 *
 * The GPU must not use the ranges any more.  Their pages are unmapped; ranges
 * to which the driver holds references stay allocated, but unusable.  @gpusvm
 * is then as after drm_gpusvm_init() and may be used again.
 *
 * Context: Process context, may sleep.  With the driver's lock held, unless
 * there is no range, as in the driver's error paths.  With neither the mmap
 * lock nor &drm_gpusvm.notifier_lock.
 */
void drm_gpusvm_free(struct drm_gpusvm *gpusvm)
{
	struct drm_gpusvm_notifier *notifier, *next_notifier;
	struct drm_gpusvm_range *range, *next;

	/* A notifier goes with its last range. */
	if (list_empty(&gpusvm->notifier_list))
		return;

	drm_gpusvm_driver_lock_held(gpusvm, 0);

	list_for_each_entry_safe(notifier, next_notifier,
				 &gpusvm->notifier_list, entry) {
		/* As long as a page is mapped, its invalidation must be seen. */
		list_for_each_entry_safe(range, next, &notifier->range_list,
					 entry)
			drm_gpusvm_range_detach(range);
		drm_gpusvm_notifier_prune(gpusvm, notifier);
	}
}
EXPORT_SYMBOL_GPL(drm_gpusvm_free);

/**
 * drm_gpusvm_fini() - Undo drm_gpusvm_init()
 * @gpusvm: The struct drm_gpusvm.
 *
 * Removes all ranges and notifiers as drm_gpusvm_free() does, and drops the
 * reference to the mm.  The process may be long gone.
 *
 * Context: As drm_gpusvm_free().
 */
void drm_gpusvm_fini(struct drm_gpusvm *gpusvm)
{
	drm_gpusvm_free(gpusvm);
	mmdrop(gpusvm->mm);
	gpusvm->mm = NULL;
}
EXPORT_SYMBOL_GPL(drm_gpusvm_fini);

/**
 * drm_gpusvm_find_vma_start() - Find the first VMA in a part of the address
 * space
 * @gpusvm: The struct drm_gpusvm.
 * @start: First address.
 * @end: End address, exclusive.
 *
 * Context: Process context, may sleep.  Takes the mmap lock for reading.
 *
 * Return: The start of the first VMA that overlaps it, which may be less than
 * @start, or %ULONG_MAX if there is none or the process is gone.
 */
unsigned long drm_gpusvm_find_vma_start(struct drm_gpusvm *gpusvm,
					unsigned long start,
					unsigned long end)
{
	struct mm_struct *mm = gpusvm->mm;
	unsigned long addr = ULONG_MAX;
	struct vm_area_struct *vma;

	if (start >= end || !mmget_not_zero(mm))
		return ULONG_MAX;

	mmap_read_lock(mm);
	vma = find_vma_intersection(mm, start, end);
	if (vma)
		addr = vma->vm_start;
	mmap_read_unlock(mm);
	mmput(mm);

	return addr;
}
EXPORT_SYMBOL_GPL(drm_gpusvm_find_vma_start);

/**
 * drm_gpusvm_range_find_or_insert() - Get the range of an address
 * @gpusvm: The struct drm_gpusvm.
 * @fault_addr: The address, typically one that the GPU faulted on.
 * @gpuva_start: Lowest address that the range may contain.
 * @gpuva_end: End address, exclusive, that the range may reach.
 * @ctx: Options: @check_pages_threshold, @read_only and @devmem_possible.
 *
 * A new range has the largest of &drm_gpusvm.chunk_sizes with which it contains
 * @fault_addr, is aligned to its size, stays within @gpuva_start and
 * @gpuva_end, the VMA and the notifier's slot, and overlaps no other range.
 * Nothing is mapped yet, see drm_gpusvm_range_get_pages().
 *
 * Context: Process context, may sleep.  With the driver's lock held, and
 * neither the mmap lock nor &drm_gpusvm.notifier_lock.
 *
 * Return: The range, which is valid until drm_gpusvm_range_remove(); no
 * reference is taken for the caller.  Or an ERR_PTR():
 *
 * * -EINVAL: the address is not mirrored, or no chunk fits.
 * * -EFAULT: the process is exiting.
 * * -ENOENT: there is no VMA at the address.
 * * -EPERM: the memory is not writable, or a shadow stack, and @ctx->read_only
 *   is not set.
 * * -EINTR: a signal interrupted the registration of the first notifier of the
 *   process.
 * * -ENOMEM: out of memory.
 */
struct drm_gpusvm_range *
drm_gpusvm_range_find_or_insert(struct drm_gpusvm *gpusvm,
				unsigned long fault_addr,
				unsigned long gpuva_start,
				unsigned long gpuva_end,
				const struct drm_gpusvm_ctx *ctx)
{
	struct drm_gpusvm_span gpuva = { gpuva_start, gpuva_end };
	struct mm_struct *mm = gpusvm->mm;
	struct drm_gpusvm_notifier *notifier;
	struct drm_gpusvm_range *range;

	drm_gpusvm_driver_lock_held(gpusvm, 0);

	if (fault_addr < gpusvm->mm_start ||
	    fault_addr - gpusvm->mm_start >= gpusvm->mm_range ||
	    fault_addr < gpuva_start || fault_addr >= gpuva_end)
		return ERR_PTR(-EINVAL);

	if (!mmget_not_zero(mm))
		return ERR_PTR(-EFAULT);

	notifier = drm_gpusvm_notifier_find_or_add(gpusvm, fault_addr);
	if (IS_ERR(notifier)) {
		range = ERR_CAST(notifier);
		goto out_mmput;
	}

	mmap_read_lock(mm);
	range = drm_gpusvm_range_add(notifier, fault_addr, gpuva, ctx);
	mmap_read_unlock(mm);
	drm_gpusvm_notifier_prune(gpusvm, notifier);

out_mmput:
	mmput(mm);
	return range;
}
EXPORT_SYMBOL_GPL(drm_gpusvm_range_find_or_insert);

/**
 * drm_gpusvm_range_remove() - Remove a range
 * @gpusvm: The struct drm_gpusvm.
 * @range: A range of it.  Drops the reference held since the insertion.
 *
 * The GPU must not use the range any more.  Unmaps its pages, and removes the
 * notifier of its slot with the last range in it.
 *
 * Context: Process context, may sleep.  With the driver's lock held, and
 * neither the mmap lock nor &drm_gpusvm.notifier_lock.
 */
void drm_gpusvm_range_remove(struct drm_gpusvm *gpusvm,
			     struct drm_gpusvm_range *range)
{
	struct drm_gpusvm_notifier *notifier = range->notifier;

	drm_gpusvm_range_detach(range);
	drm_gpusvm_notifier_prune(gpusvm, notifier);
}
EXPORT_SYMBOL_GPL(drm_gpusvm_range_remove);

/**
 * drm_gpusvm_range_get() - Take a reference to a range
 * @range: The range.
 *
 * Context: Any.
 * Return: @range.
 */
struct drm_gpusvm_range *drm_gpusvm_range_get(struct drm_gpusvm_range *range)
{
	kref_get(&range->refcount);

	return range;
}
EXPORT_SYMBOL_GPL(drm_gpusvm_range_get);

static void drm_gpusvm_range_release(struct kref *kref)
{
	struct drm_gpusvm_range *range =
		container_of(kref, struct drm_gpusvm_range, refcount);
	struct drm_gpusvm *gpusvm = range->gpusvm;

	mutex_destroy(&range->map_lock);
	if (gpusvm->ops->range_free)
		gpusvm->ops->range_free(range);
	else
		kfree(range);
}

/**
 * drm_gpusvm_range_put() - Drop a reference to a range
 * @range: The range.
 *
 * Context: Any that &drm_gpusvm_ops.range_free supports.
 */
void drm_gpusvm_range_put(struct drm_gpusvm_range *range)
{
	kref_put(&range->refcount, drm_gpusvm_range_release);
}
EXPORT_SYMBOL_GPL(drm_gpusvm_range_put);

/**
 * drm_gpusvm_has_mapping() - Whether there are ranges in a part of the address
 * space
 * @gpusvm: The struct drm_gpusvm.
 * @start: First address.
 * @end: End address, exclusive.
 *
 * Context: Any that can hold the driver's lock, which must be held.
 * Return: True if a range overlaps, whether its pages are mapped or not.
 */
bool drm_gpusvm_has_mapping(struct drm_gpusvm *gpusvm,
			    unsigned long start, unsigned long end)
{
	struct interval_tree_node *node;

	drm_gpusvm_driver_lock_held(gpusvm, -1);

	if (start >= end)
		return false;

	for (node = interval_tree_iter_first(&gpusvm->root, start, end - 1);
	     node; node = interval_tree_iter_next(node, start, end - 1))
		if (drm_gpusvm_range_find(to_drm_gpusvm_notifier(node), start,
					  end))
			return true;

	return false;
}
EXPORT_SYMBOL_GPL(drm_gpusvm_has_mapping);

/**
 * drm_gpusvm_range_find() - The first range of a notifier in a part of the
 * address space
 * @notifier: The notifier.
 * @start: First address.
 * @end: End address, exclusive.
 *
 * Context: Under the driver's lock, or &drm_gpusvm.notifier_lock held for
 * writing, as in &drm_gpusvm_ops.invalidate.
 * Return: The range with the lowest addresses of those that overlap, or NULL.
 */
struct drm_gpusvm_range *
drm_gpusvm_range_find(struct drm_gpusvm_notifier *notifier,
		      unsigned long start, unsigned long end)
{
	struct interval_tree_node *node;

	drm_gpusvm_ranges_held(notifier->gpusvm);

	if (start >= end)
		return NULL;

	node = interval_tree_iter_first(&notifier->root, start, end - 1);

	return node ? to_drm_gpusvm_range(node) : NULL;
}
EXPORT_SYMBOL_GPL(drm_gpusvm_range_find);

/**
 * drm_gpusvm_range_set_unmapped() - Record that memory of a range is unmapped
 * @range: The range.
 * @mmu_range: The event, of the kind %MMU_NOTIFY_UNMAP.
 *
 * The range can no longer be mapped.  The driver removes it, and evicts it
 * first if only a part was unmapped, so that the rest gets ranges of its own.
 *
 * Context: From &drm_gpusvm_ops.invalidate.
 */
void drm_gpusvm_range_set_unmapped(struct drm_gpusvm_range *range,
				   const struct mmu_notifier_range *mmu_range)
{
	struct drm_gpusvm_range_flags flags = drm_gpusvm_range_flags(range);

	lockdep_assert_held_write(&range->gpusvm->notifier_lock);

	flags.unmapped = true;
	if (drm_gpusvm_range_start(range) < mmu_range->start ||
	    drm_gpusvm_range_end(range) > mmu_range->end)
		flags.partial_unmap = true;
	drm_gpusvm_range_set_flags(range, flags);
}
EXPORT_SYMBOL_GPL(drm_gpusvm_range_set_unmapped);

MODULE_DESCRIPTION("DRM GPU SVM helpers");
MODULE_LICENSE("Dual MIT/GPL");
