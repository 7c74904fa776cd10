// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prefetch: memory is moved on request of user space.
 */

#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>

#include <drm/drm_drv.h>
#include <uapi/drm/vsvm_drm.h>

#include "vsvm_drv.h"

/**
 * struct vsvm_prefetch - a prefetch in progress
 * @vm: The VM.
 * @args: Arguments of the ioctl; returns the counts.
 * @snap: For prefetch to system memory, or by way of it.
 * @end: End address, exclusive.
 * @by_system: Whether what is on peers goes by way of system memory.
 */
struct vsvm_prefetch {
	struct vsvm_vm *vm;
	struct drm_vsvm_prefetch *args;
	struct vsvm_snapshot snap;
	u64 end;
	bool by_system;
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
			.flags = DRM_PAGEMAP_MIGRATE_PARTIAL |
				 DRM_PAGEMAP_MIGRATE_PEERS,
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
	struct vsvm_device *vdev = pf->vm->vdev;
	int ret, idx;
	long part;

	/* First, since the process decides how long that takes. */
	part = vsvm_mem_hold(vdev, (chunk_end - start) >> PAGE_SHIFT);
	ret = mmap_read_lock_killable(pf->vm->mm);
	if (ret)
		goto out_unhold;

	ret = -ENODEV;
	if (drm_dev_enter(&vdev->drm, &idx)) {
		ret = vsvm_prefetch_to_device(pf, start, chunk_end, next);
		drm_dev_exit(idx);
	}
	mmap_read_unlock(pf->vm->mm);

out_unhold:
	vsvm_mem_unhold(vdev, part);
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

/* Touch pages of the snapshot that are in a place, as the CPU would. */
static void vsvm_prefetch_touch(struct vsvm_prefetch *pf, unsigned long start,
				unsigned long end, u32 place)
{
	unsigned long i, n = (end - start) >> PAGE_SHIFT;

	for (i = 0; i < n; i++)
		if (pf->snap.pages[i].place == place)
			fault_in_readable((const char __user *)start +
					  (i << PAGE_SHIFT), 1);
}

/* Migrate the pages of the snapshot that are in a place, if they are coherent. */
static int vsvm_prefetch_migrate(struct vsvm_prefetch *pf, unsigned long start,
				 unsigned long end, u32 place)
{
	const struct drm_vsvm_page *pages = pf->snap.pages;
	unsigned long i, first, n = (end - start) >> PAGE_SHIFT;
	int ret = 0;

	mmap_assert_locked(pf->vm->mm);

	for (i = 0; i < n && !ret; i++) {
		if (pages[i].place != place)
			continue;
		for (first = i; i < n && pages[i].place == place; i++)
			;
		ret = drm_pagemap_coherent_to_ram(pf->vm->mm,
						  start + (first << PAGE_SHIFT),
						  start + (i << PAGE_SHIFT),
						  vsvm_owner());
		/* What cannot be mapped for DMA now is left. */
		if (ret == -EAGAIN)
			ret = 0;
	}
	return ret;
}

/* Bring the pages of the snapshot that are in a place to system memory. */
static int vsvm_prefetch_bring_back(struct vsvm_prefetch *pf,
				    unsigned long start, unsigned long end,
				    u32 place)
{
	struct mm_struct *mm = pf->vm->mm;
	int ret;

	if (!pf->snap.count[place])
		return 0;

	vsvm_prefetch_touch(pf, start, end, place);
	if (!vsvm_any_coherent())
		return 0;

	/* Those that stay where they are when the CPU accesses them */
	ret = mmap_read_lock_killable(mm);
	if (ret)
		return ret;
	ret = vsvm_prefetch_migrate(pf, start, end, place);
	mmap_read_unlock(mm);
	return ret;
}

/*
 * Pages of peers out of reach go to system memory before they go to the device.
 * Where memory changes all the time, some of them are left.
 */
static int vsvm_prefetch_from_peers(struct vsvm_prefetch *pf,
				    unsigned long start, unsigned long end)
{
	int ret;

	ret = vsvm_snapshot_take(&pf->snap, start, end);
	if (!ret)
		ret = vsvm_prefetch_bring_back(pf, start, end,
					       DRM_VSVM_PLACE_PEER);
	return ret == -EBUSY ? 0 : ret;
}

/*
 * One step of a prefetch to system memory.  An address that went away meanwhile
 * is no error.
 */
static int vsvm_prefetch_to_system(struct vsvm_prefetch *pf,
				   unsigned long start, unsigned long end)
{
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

	ret = vsvm_prefetch_bring_back(pf, start, end, DRM_VSVM_PLACE_DEVICE);
	if (!ret)
		ret = vsvm_prefetch_bring_back(pf, start, end,
					       DRM_VSVM_PLACE_PEER);
	if (ret)
		return ret;

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

static int vsvm_prefetch_step(struct vsvm_prefetch *pf, unsigned long start,
			      unsigned long chunk_end, unsigned long *next)
{
	int ret = 0;

	if (pf->args->place != DRM_VSVM_PLACE_DEVICE)
		return vsvm_prefetch_to_system_mapped(pf, start, chunk_end,
						      next);

	if (pf->by_system)
		ret = vsvm_prefetch_from_peers(pf, start, chunk_end);
	return ret ?: vsvm_prefetch_to_device_locked(pf, start, chunk_end,
						     next);
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
		ret = vsvm_prefetch_step(pf, addr, chunk_end, &next);
		if (ret)
			return ret;
		cond_resched();
	}
	return 0;
}

/**
 * vsvm_prefetch() - Move a range of memory
 * @vm: The VM.
 * @args: Arguments of the ioctl, checked; returns the counts.
 * @end: End address, exclusive.
 *
 * Return: 0 or a negative errno, see &struct drm_vsvm_prefetch.
 */
int vsvm_prefetch(struct vsvm_vm *vm, struct drm_vsvm_prefetch *args, u64 end)
{
	struct vsvm_prefetch pf = { .vm = vm, .args = args, .end = end };
	int ret;

	pf.by_system = !vsvm_peers_reachable();
	if (args->place == DRM_VSVM_PLACE_DEVICE && !pf.by_system)
		return vsvm_prefetch_run(&pf);

	ret = vsvm_snapshot_init(&pf.snap, vm, args->start, end);
	if (ret)
		return ret;
	ret = vsvm_prefetch_run(&pf);
	vsvm_snapshot_fini(&pf.snap);
	return ret;
}
