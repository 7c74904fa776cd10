// SPDX-License-Identifier: GPL-2.0-only
/*
 * Residency: snapshots of where the memory of a process is.
 */

#include <linux/hmm.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include <uapi/drm/vsvm_drm.h>

#include "vsvm_drv.h"

static bool vsvm_snapshot_invalidate(struct mmu_interval_notifier *notifier,
				     const struct mmu_notifier_range *range,
				     unsigned long cur_seq)
{
	struct vsvm_snapshot *snap =
		container_of(notifier, struct vsvm_snapshot, notifier);

	/* Short enough to wait for it even if @range must not block. */
	spin_lock(&snap->lock);
	mmu_interval_set_seq(notifier, cur_seq);
	spin_unlock(&snap->lock);
	return true;
}

static const struct mmu_interval_notifier_ops vsvm_snapshot_notifier_ops = {
	.invalidate = vsvm_snapshot_invalidate,
};

/**
 * vsvm_snapshot_init() - Prepare for snapshots of parts of a range
 * @snap: The snapshot.
 * @vm: The VM.
 * @start: First address.
 * @end: End address, exclusive.
 *
 * A part is a chunk at most.
 *
 * Return: 0 or a negative errno.
 */
int vsvm_snapshot_init(struct vsvm_snapshot *snap, struct vsvm_vm *vm,
		       u64 start, u64 end)
{
	unsigned long npages;
	int ret;

	npages = min_t(u64, end - start, vsvm_mem_chunk(vm->vdev)) >> PAGE_SHIFT;
	snap->vm = vm;
	spin_lock_init(&snap->lock);
	snap->pfns = kvmalloc_array(npages, sizeof(*snap->pfns) +
				    sizeof(*snap->pages), GFP_KERNEL_ACCOUNT);
	if (!snap->pfns)
		return -ENOMEM;
	snap->pages = (struct drm_vsvm_page *)(snap->pfns + npages);

	ret = mmu_interval_notifier_insert(&snap->notifier, vm->mm, start,
					   end - start,
					   &vsvm_snapshot_notifier_ops);
	if (ret)
		kvfree(snap->pfns);
	/* The first of the process gives up for any signal: begin anew. */
	return ret == -EINTR ? -ERESTARTNOINTR : ret;
}

/**
 * vsvm_snapshot_fini() - Undo vsvm_snapshot_init()
 * @snap: The snapshot.
 */
void vsvm_snapshot_fini(struct vsvm_snapshot *snap)
{
	mmu_interval_notifier_remove(&snap->notifier);
	kvfree(snap->pfns);
}

static struct drm_vsvm_page vsvm_snapshot_page(struct vsvm_snapshot *snap,
					       unsigned long hmm_pfn)
{
	struct drm_vsvm_page entry = {};
	struct vsvm_device *vdev;
	struct page *page;

	/* The entry of HMM is valid only as long as this is held. */
	lockdep_assert_held(&snap->lock);

	if (hmm_pfn & HMM_PFN_ERROR) {
		entry.place = DRM_VSVM_PLACE_UNMAPPED;
		return entry;
	}
	if (!(hmm_pfn & HMM_PFN_VALID))
		return entry;

	entry.place = DRM_VSVM_PLACE_SYSTEM;
	if (hmm_pfn & HMM_PFN_WRITE)
		entry.flags = DRM_VSVM_PAGE_WRITE;

	page = hmm_pfn_to_page(hmm_pfn);
	if (drm_pagemap_page_is_devmem(page, vsvm_owner())) {
		vdev = vsvm_from_page(page);
		entry.place = vdev == snap->vm->vdev ?
			      DRM_VSVM_PLACE_DEVICE : DRM_VSVM_PLACE_PEER;
		entry.device = vdev->index;
	}
	return entry;
}

/* One try.  Returns -EBUSY if the memory changed meanwhile. */
static int vsvm_snapshot_try(struct vsvm_snapshot *snap,
			     struct hmm_range *range)
{
	struct mm_struct *mm = range->notifier->mm;
	unsigned long i, n = (range->end - range->start) >> PAGE_SHIFT;
	int ret;

	range->notifier_seq = mmu_interval_read_begin(range->notifier);

	ret = mmap_read_lock_killable(mm);
	if (ret)
		return ret;
	ret = hmm_range_fault(range);
	mmap_read_unlock(mm);
	if (ret)
		return ret;

	memset(snap->count, 0, sizeof(snap->count));
	spin_lock(&snap->lock);
	if (mmu_interval_read_retry(range->notifier, range->notifier_seq)) {
		spin_unlock(&snap->lock);
		return -EBUSY;
	}
	for (i = 0; i < n; i++) {
		snap->pages[i] = vsvm_snapshot_page(snap, snap->pfns[i]);
		snap->count[snap->pages[i].place]++;
	}
	spin_unlock(&snap->lock);
	return 0;
}

/**
 * vsvm_snapshot_take() - See where pages are
 * @snap: The snapshot.
 * @start: First address.
 * @end: End address, exclusive.
 *
 * Nothing is faulted in.  Goes without drm_dev_enter(): a page that is mapped
 * keeps its region in place.
 *
 * Return: 0, -EBUSY if the memory changes all the time, or -EINTR.
 */
int vsvm_snapshot_take(struct vsvm_snapshot *snap, unsigned long start,
		       unsigned long end)
{
	unsigned long timeout = msecs_to_jiffies(HMM_RANGE_DEFAULT_TIMEOUT);
	unsigned long deadline = jiffies + timeout;
	struct hmm_range range = {
		.notifier = &snap->notifier,
		.start = start,
		.end = end,
		.hmm_pfns = snap->pfns,
		.dev_private_owner = vsvm_owner(),
	};
	int ret;

	do {
		ret = vsvm_snapshot_try(snap, &range);
		if (ret == -EBUSY && fatal_signal_pending(current))
			ret = -EINTR;
	} while (ret == -EBUSY && time_before(jiffies, deadline));
	return ret;
}

static int vsvm_residency_run(struct vsvm_vm *vm, struct vsvm_snapshot *snap,
			      const struct drm_vsvm_residency *args, u64 end)
{
	struct drm_vsvm_page __user *out = u64_to_user_ptr(args->pages);
	unsigned long chunk = vsvm_mem_chunk(vm->vdev);
	unsigned long addr, next, n;
	int ret;

	for (addr = args->start; addr < end; addr = next) {
		if (fatal_signal_pending(current))
			return -EINTR;

		next = min_t(u64, end, ALIGN(addr + 1, chunk));
		n = (next - addr) >> PAGE_SHIFT;
		ret = vsvm_snapshot_take(snap, addr, next);
		if (ret)
			return ret;

		if (copy_to_user(out, snap->pages, n * sizeof(*out)))
			return -EFAULT;
		out += n;
		cond_resched();
	}
	return 0;
}

/**
 * vsvm_residency() - Report where each page of a range is
 * @vm: The VM.
 * @args: Arguments of the ioctl.
 * @end: End address, exclusive.
 *
 * Return: 0 or a negative errno, see &struct drm_vsvm_residency.
 */
int vsvm_residency(struct vsvm_vm *vm, const struct drm_vsvm_residency *args,
		   u64 end)
{
	struct vsvm_snapshot snap;
	int ret;

	ret = vsvm_snapshot_init(&snap, vm, args->start, end);
	if (ret)
		return ret;
	ret = vsvm_residency_run(vm, &snap, args, end);
	vsvm_snapshot_fini(&snap);
	return ret;
}
