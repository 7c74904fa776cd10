// SPDX-License-Identifier: GPL-2.0-only
/*
 * Page faults of the GPU: what drivers of hardware do when it reports one.
 *
 * A fault is resolved for a whole range: the memory moves to the device, if the
 * advice and the kind of memory allow it, then its pages are mapped wherever
 * they are now, and entered in the page table unless the process's memory
 * changed meanwhile.  Then it all starts over, until a deadline.
 *
 * Two things make sure that it gets somewhere.  Where memory keeps moving
 * between devices, a fault soon leaves it where it is.  And if a range cannot
 * be mapped, or not for long enough, maybe because of a neighbour of the page
 * that was accessed, the page is tried alone.
 *
 * Bounce buffers (swiotlb=force, or memory encryption) are no memory to share
 * with CPUs: what the GPU writes there would overwrite, at some later time,
 * what CPUs wrote meanwhile.  So with these, memory is written on the device
 * only, and system memory is mapped for reading.
 */

#include <linux/cred.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/rcupdate.h>
#include <linux/sched/mm.h>

#include <drm/drm_drv.h>
#include <uapi/drm/vsvm_drm.h>

#include "vsvm_drv.h"
#include "vsvm_trace.h"

/* When a fault gives up. */
#define VSVM_FAULT_TIMEOUT	(10 * HZ)

/*
 * After how many tries memory stays where it is, and the page is tried alone: a
 * range is outdated whenever any of its pages changes, a page much less often.
 */
#define VSVM_FAULT_TRIES	4

/* For how long memory stays on the device where it took several tries. */
#define VSVM_FAULT_TIMESLICE_MS	20UL

/* How often memory that should be accessible may be found not to be. */
#define VSVM_FAULT_FAILURES	3

static bool vsvm_fault_needs_device(const struct vsvm_fault *fault)
{
	return fault->write && vsvm_mem_bounces(fault->vm->vdev);
}

static bool vsvm_fault_wants_device(const struct vsvm_fault *fault)
{
	if (vsvm_fault_needs_device(fault))
		return true;
	return fault->advice.advice != DRM_VSVM_ADVICE_SYSTEM &&
	       fault->tries < VSVM_FAULT_TRIES;
}

/* A shadow stack is written by calls only. */
static bool vsvm_fault_can_write(const struct vm_area_struct *vma)
{
	return vma->vm_flags & VM_WRITE && !(vma->vm_flags & VM_SHADOW_STACK);
}

/* Whether the process itself could do what the GPU wants to. */
static int vsvm_fault_check(const struct vsvm_fault *fault)
{
	struct mm_struct *mm = fault->vm->mm;
	struct vm_area_struct *vma;
	int ret = 0;

	mmap_read_lock(mm);
	vma = vma_lookup(mm, fault->addr);
	if (!vma || vma->vm_flags & (VM_IO | VM_PFNMAP))
		ret = -EFAULT;
	else if (!(vma->vm_flags & VM_READ) ||
		 (fault->write && !vsvm_fault_can_write(vma)))
		ret = -EACCES;
	mmap_read_unlock(mm);
	return ret;
}

/* Try the page alone, if the range has more.  Returns whether it has. */
static bool vsvm_fault_alone(struct vsvm_fault *fault,
			     struct drm_gpusvm_range *range)
{
	if (drm_gpusvm_range_size(range) == PAGE_SIZE)
		return false;

	vsvm_range_remove(fault->vm, to_vsvm_range(range));
	fault->narrow = true;
	return true;
}

/*
 * Something in the range is not there, or not writable, although the page was
 * when it was checked.  It may be gone, or the cause may be a neighbour.
 */
static int vsvm_fault_narrow(struct vsvm_fault *fault,
			     struct drm_gpusvm_range *range, int err)
{
	if (vsvm_fault_alone(fault, range))
		return -EAGAIN;

	/* It was on the device, but the process took it back too soon. */
	if (err != -ENOMEM && vsvm_fault_needs_device(fault) && fault->on_device)
		return -EAGAIN;
	if (++fault->failures < VSVM_FAULT_FAILURES)
		return -EAGAIN;
	return err != -ENOMEM && vsvm_fault_needs_device(fault) ? -EACCES : err;
}

static struct drm_gpusvm_range *vsvm_fault_range(struct vsvm_fault *fault,
						 const struct drm_gpusvm_ctx *ctx)
{
	struct vsvm_vm *vm = fault->vm;
	unsigned long start, end;

	vsvm_advice_lookup(vm, fault->addr, &fault->advice);
	start = fault->narrow ? fault->addr : fault->advice.start;
	end = fault->narrow ? fault->addr + PAGE_SIZE : fault->advice.end;

	return drm_gpusvm_range_find_or_insert(&vm->gpusvm, fault->addr, start,
					       end, ctx);
}

/* If nothing but the device will do, it must have the memory for a while. */
static unsigned long vsvm_fault_timeslice(const struct vsvm_fault *fault)
{
	unsigned long timeslice_ms = fault->advice.timeslice_ms;

	if (fault->tries && vsvm_fault_needs_device(fault))
		timeslice_ms = max(timeslice_ms, VSVM_FAULT_TIMESLICE_MS);
	return timeslice_ms;
}

/*
 * Whether to take pages from peers: those that are wanted here, or that cannot
 * be mapped beside others of the range.
 */
static bool vsvm_fault_takes_from_peers(const struct vsvm_fault *fault)
{
	return fault->gather || fault->advice.advice == DRM_VSVM_ADVICE_DEVICE;
}

/* Move what can be moved.  The rest is mapped where it is. */
static int vsvm_fault_migrate(struct vsvm_fault *fault,
			      struct drm_gpusvm_range *range)
{
	struct vsvm_vm *vm = fault->vm;
	struct vsvm_populate pop = {
		.mig = {
			.mm = vm->mm,
			.start = drm_gpusvm_range_start(range),
			.end = drm_gpusvm_range_end(range),
			.timeslice_ms = vsvm_fault_timeslice(fault),
			.flags = DRM_PAGEMAP_MIGRATE_PARTIAL,
		},
		.client = vm->client,
		.fault_window = fault->advice.fault_window,
		.accessed = true,
	};
	long part;
	int ret;

	if (vsvm_fault_takes_from_peers(fault))
		pop.mig.flags |= DRM_PAGEMAP_MIGRATE_PEERS;

	part = vsvm_mem_hold(vm->vdev,
			     drm_gpusvm_range_size(range) >> PAGE_SHIFT);
	mmap_read_lock(vm->mm);
	ret = vsvm_mem_populate(vm->vdev, &pop);
	mmap_read_unlock(vm->mm);
	vsvm_mem_unhold(vm->vdev, part);
	fault->on_device = pop.mig.moved + pop.mig.resident;
	fault->left = pop.mig.left;

	switch (ret) {
	case -EINVAL:
		/* The mapping is not what it was when the range was made. */
		vsvm_range_remove(vm, to_vsvm_range(range));
		return -EAGAIN;
	case -ENODEV:
		return ret;
	case -ENOSPC:
	case -ENOMEM:
		return vsvm_fault_needs_device(fault) ? ret : 0;
	default:
		return 0;
	}
}

/*
 * Whether to move the range once more, of which @n pages are on the device.
 * Memory that is shared since fork() is still shared after it was moved: when it
 * is mapped for writing, the process gets a copy of its own, but in system
 * memory.
 */
static bool vsvm_fault_again(struct vsvm_fault *fault, unsigned long n)
{
	bool again = n < fault->on_device && !fault->again;

	fault->again |= again;
	return again;
}

/*
 * Whether to try again, with all pages of the range in one place, rather than to
 * have all of them in system memory first.
 */
static bool vsvm_fault_gather(struct vsvm_fault *fault)
{
	if (fault->gather || !fault->left || !vsvm_peers_reachable())
		return false;

	fault->gather = true;
	return true;
}

static int vsvm_fault_get_pages(struct vsvm_fault *fault,
				struct drm_gpusvm_range *range,
				const struct drm_gpusvm_ctx *ctx)
{
	struct drm_gpusvm *gpusvm = &fault->vm->gpusvm;
	int ret;

	ret = drm_gpusvm_range_get_pages(gpusvm, range, ctx);
	switch (ret) {
	case 0:
		return 0;
	case -EOPNOTSUPP:
		/* It is in the memory of a peer out of reach, or of several. */
		if (!vsvm_fault_gather(fault))
			drm_gpusvm_range_evict(gpusvm, range);
		return -EAGAIN;
	case -EBUSY:
		/* That took about a second, and may do so again: map less. */
		vsvm_fault_alone(fault, range);
		return -EAGAIN;
	case -EPERM:
		return vsvm_fault_narrow(fault, range, -EACCES);
	case -ENOMEM:
		return vsvm_fault_narrow(fault, range, ret);
	case -EIO:
		/* Secret memory, or a special page: none for a device. */
		return vsvm_fault_narrow(fault, range, -EFAULT);
	default:
		if (ctx->devmem_only && vsvm_fault_again(fault, 0))
			return -EAGAIN;
		return vsvm_fault_narrow(fault, range, -EFAULT);
	}
}

/*
 * Whether the pages of a range are where they should be: 0, or -EAGAIN for
 * another try.  Pages that did not come from a peer by themselves go by way of
 * system memory, so the caller evicts those.
 */
static int vsvm_fault_check_places(struct vsvm_fault *fault,
				   struct drm_gpusvm_range *range, bool *evict)
{
	unsigned long i, n = drm_gpusvm_range_size(range) >> PAGE_SHIFT;
	const struct drm_pagemap_device_addr *device_addr = range->dma_addr;
	unsigned long on_device = 0;

	lockdep_assert_held(&fault->vm->gpusvm.notifier_lock);

	*evict = false;
	if (!vsvm_fault_wants_device(fault))
		return 0;

	for (i = 0; i < n; i += 1UL << device_addr->order, device_addr++) {
		if (device_addr->proto != DRM_INTERCONNECT_SYSTEM)
			on_device += 1UL << device_addr->order;
		*evict |= fault->advice.advice == DRM_VSVM_ADVICE_DEVICE &&
			  vsvm_mem_is_peer(fault->vm->vdev, device_addr);
	}
	return *evict || vsvm_fault_again(fault, on_device) ? -EAGAIN : 0;
}

static int vsvm_fault_commit(struct vsvm_fault *fault,
			     struct drm_gpusvm_range *range)
{
	struct drm_gpusvm *gpusvm = &fault->vm->gpusvm;
	struct vsvm_vm *vm = fault->vm;
	bool evict = false;
	int ret;

	ret = vsvm_pt_prepare(vm, drm_gpusvm_range_start(range),
			      drm_gpusvm_range_end(range));
	if (ret)
		return ret;

	drm_gpusvm_notifier_lock(gpusvm);
	ret = -EAGAIN;
	if (drm_gpusvm_range_pages_valid(gpusvm, range))
		ret = vsvm_fault_check_places(fault, range, &evict);
	if (!ret)
		ret = vsvm_pt_map(vm, range);
	drm_gpusvm_notifier_unlock(gpusvm);

	if (evict)
		drm_gpusvm_range_evict(gpusvm, range);
	return ret;
}

/* One try.  Returns -EAGAIN if there should be another. */
static int vsvm_fault_try(struct vsvm_fault *fault)
{
	struct drm_gpusvm_ctx ctx = {
		.read_only = !fault->write,
		.devmem_possible = true,
		.devmem_only = vsvm_fault_needs_device(fault),
		.allow_mixed = true,
	};
	struct drm_gpusvm_range_flags flags;
	struct drm_gpusvm_range *range;
	int ret;

	lockdep_assert_held(&fault->vm->svm_lock);

	fault->on_device = 0;
	fault->left = 0;
	ret = vsvm_fault_check(fault);
	if (ret)
		return ret;

	vsvm_range_collect_locked(fault->vm);
	range = vsvm_fault_range(fault, &ctx);
	if (IS_ERR(range)) {
		/* The checks are done, so this was a change meanwhile. */
		ret = PTR_ERR(range);
		if (ret == -ENOMEM || ++fault->failures >= VSVM_FAULT_FAILURES)
			return ret == -ENOMEM ? ret : -EFAULT;
		return -EAGAIN;
	}

	if (fault->tries >= VSVM_FAULT_TRIES &&
	    vsvm_fault_alone(fault, range))
		return -EAGAIN;

	flags.__flags = READ_ONCE(range->flags.__flags);
	if (flags.migrate_devmem && vsvm_fault_wants_device(fault)) {
		ret = vsvm_fault_migrate(fault, range);
		if (ret)
			return ret;
	}

	ret = vsvm_fault_get_pages(fault, range, &ctx);
	if (ret)
		return ret;
	return vsvm_fault_commit(fault, range);
}

/*
 * Whether nobody has the address space any more but workers, each of which would
 * keep it for the others, with nobody to pay for its memory.
 */
#ifdef CONFIG_MEMCG
static bool vsvm_fault_is_orphan(const struct vsvm_fault *fault)
{
	return !rcu_access_pointer(fault->vm->mm->owner);
}
#else
static bool vsvm_fault_is_orphan(const struct vsvm_fault *fault)
{
	return false;
}
#endif

/**
 * vsvm_fault_handle() - Resolve a page fault of the GPU
 * @fault: The fault.  To be used again if the same access faults again, so that
 *         an access cannot fault forever.
 *
 * After success the access is to be tried again; it may still fault, since the
 * process's memory can change at any time.
 *
 * Context: Worker of the VM, which vsvm_vm_detach_all() waits for: the device's
 * memory stays, also after drm_dev_unplug().  Outside drm_dev_enter(), since the
 * process's file systems decide how long it takes.  Sleeps.
 *
 * Return: 0, or
 *
 * * -EFAULT: no memory there, or none that a device may access.
 * * -EACCES: it must not be read, or written.
 * * -ENOMEM: no memory.
 * * -ENOSPC: no device memory, and system memory cannot be used.
 * * -EBUSY: the memory changes all the time.
 * * -ERANGE: an address does not fit in the page table.
 * * -ENODEV, -ECANCELED: the device or the VM goes away.
 */
int vsvm_fault_handle(struct vsvm_fault *fault)
{
	struct mem_cgroup *memcg, *worker_memcg;
	struct vsvm_vm *vm = fault->vm;
	const struct cred *worker_cred;
	int ret;

	if (!fault->tries)
		fault->deadline = jiffies + VSVM_FAULT_TIMEOUT;
	if (!mmget_not_zero(vm->mm))
		return -EFAULT;

	/* A file system must not take the worker for the administrator. */
	worker_cred = override_creds(vm->cred);
	/* Page tables, here and of CPUs, are paid for by the process. */
	memcg = get_mem_cgroup_from_mm(vm->mm);
	worker_memcg = set_active_memcg(memcg);

	mutex_lock(&vm->svm_lock);
	do {
		ret = READ_ONCE(vm->queue.closed);
		if (!ret && vsvm_fault_is_orphan(fault))
			ret = -EFAULT;
		if (ret)
			break;
		ret = time_after(jiffies, fault->deadline) ?
		      -EBUSY : vsvm_fault_try(fault);
		fault->tries++;
	} while (ret == -EAGAIN);
	mutex_unlock(&vm->svm_lock);

	set_active_memcg(worker_memcg);
	mem_cgroup_put(memcg);
	revert_creds(worker_cred);

	/* May be the last: tears down the address space, so without the lock. */
	mmput(vm->mm);

	atomic64_inc(&vm->vdev->gpu_faults);
	atomic64_inc(&vm->client->gpu_faults);
	trace_vsvm_gpu_fault(fault, ret);
	return ret;
}
