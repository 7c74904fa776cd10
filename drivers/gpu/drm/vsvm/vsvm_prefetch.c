// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where the memory of a process is, and moving it on request of user space.
 */

#include <linux/hmm.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include <drm/drm_drv.h>
#include <uapi/drm/vsvm_drm.h>

#include "vsvm_drv.h"

/**
 * struct vsvm_snapshot - where the pages of a range are
 * @vm: The VM.
 * @notifier: Tells that memory in the range changes.
 * @lock: Protects the sequence number of @notifier.  What was found valid stays
 *        so while it is held.
 * @pages: One entry for each page of a step.
 * @pfns: The same, as HMM has it.
 * @count: Number of pages for each enum drm_vsvm_place.
 */
struct vsvm_snapshot {
	struct vsvm_vm *vm;
	struct mmu_interval_notifier notifier;
	/* Taken by mmu notifiers. */
	spinlock_t lock;
	struct drm_vsvm_page *pages;
	unsigned long *pfns;
	unsigned long count[DRM_VSVM_PLACE_UNMAPPED + 1];
};

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

/* Prepare for snapshots of parts of a range, of a chunk at most. */
static int vsvm_snapshot_init(struct vsvm_snapshot *snap, struct vsvm_vm *vm,
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
	return ret;
}

static void vsvm_snapshot_fini(struct vsvm_snapshot *snap)
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

	/* What must stay true while the entry of HMM is looked at. */
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
	if (is_device_private_page(page)) {
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

/*
 * See where the pages from @start to @end are.  Nothing is faulted in.  Goes
 * without drm_dev_enter(): a page that is mapped keeps its region in place.
 */
static int vsvm_snapshot_take(struct vsvm_snapshot *snap, unsigned long start,
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

/**
 * struct vsvm_prefetch - a prefetch in progress
 * @vm: The VM.
 * @args: What user space wants, and the counts it gets.
 * @snap: For prefetch to system memory.
 * @end: End address, exclusive.
 */
struct vsvm_prefetch {
	struct vsvm_vm *vm;
	struct drm_vsvm_prefetch *args;
	struct vsvm_snapshot snap;
	u64 end;
};

static bool vsvm_prefetch_is_partial(const struct vsvm_prefetch *pf)
{
	return pf->args->flags & DRM_VSVM_PREFETCH_PARTIAL;
}

/* Account for pages that stay where they are. */
static int vsvm_prefetch_leave(struct vsvm_prefetch *pf, unsigned long npages,
			       int err)
{
	pf->args->left += npages;
	return npages && !vsvm_prefetch_is_partial(pf) ? err : 0;
}

static int vsvm_prefetch_populate(struct vsvm_prefetch *pf,
				  unsigned long start, unsigned long end)
{
	struct vsvm_populate pop = {
		.mig = {
			.mm = pf->vm->mm,
			.start = start,
			.end = end,
			.timeslice_ms = pf->args->timeslice_ms,
			.flags = DRM_PAGEMAP_MIGRATE_PARTIAL,
		},
		.client = pf->vm->client,
		.fault_window = pf->args->fault_window,
	};
	int ret;

	ret = vsvm_mem_populate(pf->vm->vdev, &pop);
	if (ret)
		return ret;

	pf->args->moved += pop.mig.moved;
	pf->args->resident += pop.mig.resident;
	return vsvm_prefetch_leave(pf, pop.mig.left, -EBUSY);
}

/*
 * One step of a prefetch to the device: what is in one mapping and within one
 * chunk.  The next step is at @next.
 */
static int vsvm_prefetch_to_device(struct vsvm_prefetch *pf,
				   unsigned long start, unsigned long chunk_end,
				   unsigned long *next)
{
	struct mm_struct *mm = pf->vm->mm;
	struct vm_area_struct *vma;

	mmap_assert_locked(mm);

	vma = find_vma(mm, start);
	if (!vma || vma->vm_start > start) {
		*next = min_t(u64, pf->end, vma ? vma->vm_start : pf->end);
		return vsvm_prefetch_is_partial(pf) ? 0 : -EFAULT;
	}

	*next = min(chunk_end, vma->vm_end);
	if (!vma_is_anonymous(vma) || vma->vm_flags & VM_SPECIAL)
		return vsvm_prefetch_leave(pf, (*next - start) >> PAGE_SHIFT,
					   -EOPNOTSUPP);

	return vsvm_prefetch_populate(pf, start, *next);
}

static int vsvm_prefetch_to_device_locked(struct vsvm_prefetch *pf,
					  unsigned long start,
					  unsigned long chunk_end,
					  unsigned long *next)
{
	int ret, idx;

	/* First, since the process decides how long that takes. */
	ret = mmap_read_lock_killable(pf->vm->mm);
	if (ret)
		return ret;

	ret = -ENODEV;
	if (drm_dev_enter(&pf->vm->vdev->drm, &idx)) {
		ret = vsvm_prefetch_to_device(pf, start, chunk_end, next);
		drm_dev_exit(idx);
	}
	mmap_read_unlock(pf->vm->mm);
	return ret;
}

/* Find the first mapping from @start on.  Page by page, a hole takes hours. */
static int vsvm_prefetch_skip_hole(struct vsvm_prefetch *pf,
				   unsigned long start, unsigned long *next)
{
	struct mm_struct *mm = pf->vm->mm;
	struct vm_area_struct *vma;
	int ret;

	ret = mmap_read_lock_killable(mm);
	if (ret)
		return ret;
	vma = find_vma(mm, start);
	*next = vma ? clamp_t(u64, vma->vm_start, start, pf->end) : pf->end;
	mmap_read_unlock(mm);
	return 0;
}

/*
 * One step of a prefetch to system memory, by touching what is on a device as
 * the CPU would.  An address that went away meanwhile is no error.
 */
static int vsvm_prefetch_to_system(struct vsvm_prefetch *pf,
				   unsigned long start, unsigned long end)
{
	unsigned long i, n = (end - start) >> PAGE_SHIFT;
	struct vsvm_snapshot *snap = &pf->snap;
	unsigned long before, after;
	int ret;

	ret = vsvm_snapshot_take(snap, start, end);
	if (ret)
		return ret;

	pf->args->resident += snap->count[DRM_VSVM_PLACE_SYSTEM];
	before = snap->count[DRM_VSVM_PLACE_DEVICE] +
		 snap->count[DRM_VSVM_PLACE_PEER];
	if (!before)
		return 0;

	for (i = 0; i < n; i++)
		if (snap->pages[i].place == DRM_VSVM_PLACE_DEVICE ||
		    snap->pages[i].place == DRM_VSVM_PLACE_PEER)
			fault_in_readable((const char __user *)start +
					  (i << PAGE_SHIFT), 1);

	ret = vsvm_snapshot_take(snap, start, end);
	if (ret)
		return ret;

	after = snap->count[DRM_VSVM_PLACE_DEVICE] +
		snap->count[DRM_VSVM_PLACE_PEER];
	pf->args->moved += before - min(before, after);
	return vsvm_prefetch_leave(pf, after, -EBUSY);
}

static int vsvm_prefetch_to_system_mapped(struct vsvm_prefetch *pf,
					  unsigned long start,
					  unsigned long chunk_end,
					  unsigned long *next)
{
	int ret;

	ret = vsvm_prefetch_skip_hole(pf, start, next);
	if (ret || *next > start)
		return ret;

	*next = chunk_end;
	return vsvm_prefetch_to_system(pf, start, chunk_end);
}

/* Step by step, so that the device can be unplugged and the task killed. */
static int vsvm_prefetch_run(struct vsvm_prefetch *pf)
{
	unsigned long chunk = vsvm_mem_chunk(pf->vm->vdev);
	unsigned long addr, chunk_end, next;
	int ret;

	for (addr = pf->args->start; addr < pf->end; addr = next) {
		if (fatal_signal_pending(current))
			return -EINTR;

		chunk_end = min_t(u64, pf->end, ALIGN(addr + 1, chunk));
		next = chunk_end;
		if (pf->args->place == DRM_VSVM_PLACE_DEVICE)
			ret = vsvm_prefetch_to_device_locked(pf, addr,
							     chunk_end, &next);
		else
			ret = vsvm_prefetch_to_system_mapped(pf, addr,
							     chunk_end, &next);
		if (ret)
			return ret;
		cond_resched();
	}
	return 0;
}

static int vsvm_prefetch_check(struct vsvm_vm *vm,
			       const struct drm_vsvm_prefetch *args)
{
	if (args->flags & ~DRM_VSVM_PREFETCH_PARTIAL)
		return -EINVAL;

	switch (args->place) {
	case DRM_VSVM_PLACE_SYSTEM:
		return args->timeslice_ms || args->fault_window ? -EINVAL : 0;
	case DRM_VSVM_PLACE_DEVICE:
		return vsvm_vm_check_limits(vm, args->timeslice_ms,
					    args->fault_window);
	default:
		return -EINVAL;
	}
}

static int vsvm_vm_prefetch(struct vsvm_vm *vm, struct drm_vsvm_prefetch *args)
{
	struct vsvm_prefetch pf = { .vm = vm, .args = args };
	int ret;

	ret = vsvm_prefetch_check(vm, args);
	if (ret)
		return ret;
	ret = vsvm_vm_range_end(vm, args->start, args->size, &pf.end);
	if (ret)
		return ret;

	if (args->place == DRM_VSVM_PLACE_DEVICE)
		return vsvm_prefetch_run(&pf);

	ret = vsvm_snapshot_init(&pf.snap, vm, args->start, pf.end);
	if (ret)
		return ret;
	ret = vsvm_prefetch_run(&pf);
	vsvm_snapshot_fini(&pf.snap);
	return ret;
}

/**
 * vsvm_prefetch_ioctl() - DRM_IOCTL_VSVM_PREFETCH
 * @drm: The device.
 * @data: struct drm_vsvm_prefetch.
 * @file: The open file.
 *
 * Return: 0 or a negative errno, see there.
 */
int vsvm_prefetch_ioctl(struct drm_device *drm, void *data,
			struct drm_file *file)
{
	struct drm_vsvm_prefetch *args = data;
	struct vsvm_vm *vm;
	int ret;

	args->moved = 0;
	args->resident = 0;
	args->left = 0;

	vm = vsvm_vm_get(file, args->vm_id);
	if (IS_ERR(vm))
		return PTR_ERR(vm);

	ret = vsvm_vm_prefetch(vm, args);
	vsvm_vm_put(vm);
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
 * vsvm_residency_ioctl() - DRM_IOCTL_VSVM_RESIDENCY
 * @drm: The device.
 * @data: struct drm_vsvm_residency.
 * @file: The open file.
 *
 * Return: 0 or a negative errno, see there.
 */
int vsvm_residency_ioctl(struct drm_device *drm, void *data,
			 struct drm_file *file)
{
	struct drm_vsvm_residency *args = data;
	struct vsvm_snapshot snap;
	struct vsvm_vm *vm;
	u64 end;
	int ret;

	if (args->flags)
		return -EINVAL;

	vm = vsvm_vm_get(file, args->vm_id);
	if (IS_ERR(vm))
		return PTR_ERR(vm);

	ret = vsvm_vm_range_end(vm, args->start, args->size, &end);
	if (ret)
		goto out_put;
	ret = vsvm_snapshot_init(&snap, vm, args->start, end);
	if (ret)
		goto out_put;

	ret = vsvm_residency_run(vm, &snap, args, end);
	vsvm_snapshot_fini(&snap);
out_put:
	vsvm_vm_put(vm);
	return ret;
}
