// SPDX-License-Identifier: GPL-2.0-only
/*
 * VMs: which process's memory a device works on, and the ranges of it that are
 * mirrored by GPU SVM.
 *
 * Ranges go when the process unmaps them, or when user space advises something
 * else.  Neither can be done on the spot, in an mmu notifier or beside the
 * worker that uses them: they are garbage then, which the worker collects.
 */

#include <linux/dma-fence.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include <drm/drm_drv.h>
#include <drm/drm_print.h>
#include <uapi/drm/vsvm_drm.h>

#include "vsvm_drv.h"
#include "vsvm_trace.h"

/* How much of the address space is watched by one mmu notifier. */
#define VSVM_NOTIFIER_SIZE	SZ_512M

/*
 * Ranges.
 */

static struct vsvm_vm *to_vsvm_vm(struct drm_gpusvm *gpusvm)
{
	return container_of(gpusvm, struct vsvm_vm, gpusvm);
}

/**
 * vsvm_vm_add_garbage() - Have a range removed
 * @vm: The VM.
 * @range: The range.  It stays until the worker collects it.
 *
 * Context: The SVM lock, or in an mmu notifier.
 */
void vsvm_vm_add_garbage(struct vsvm_vm *vm, struct vsvm_range *range)
{
	spin_lock(&vm->garbage_lock);
	if (list_empty(&range->garbage_link))
		list_add_tail(&range->garbage_link, &vm->garbage);
	spin_unlock(&vm->garbage_lock);

	vsvm_queue_kick(vm);
}

static struct vsvm_range *vsvm_vm_pop_garbage(struct vsvm_vm *vm)
{
	struct vsvm_range *range;

	spin_lock(&vm->garbage_lock);
	range = list_first_entry_or_null(&vm->garbage, struct vsvm_range,
					 garbage_link);
	if (range)
		list_del_init(&range->garbage_link);
	spin_unlock(&vm->garbage_lock);
	return range;
}

/**
 * vsvm_vm_remove_range() - Unmap and forget a range
 * @vm: The VM.
 * @range: The range.
 *
 * Its memory stays where it is, also that on the device: what the process has
 * left of it is found there when a new range is made.
 *
 * Context: Worker of the VM, the SVM lock is held.
 */
void vsvm_vm_remove_range(struct vsvm_vm *vm, struct vsvm_range *range)
{
	unsigned long start = drm_gpusvm_range_start(&range->base);
	unsigned long end = drm_gpusvm_range_end(&range->base);

	lockdep_assert_held(&vm->svm_lock);

	drm_gpusvm_notifier_lock(&vm->gpusvm);
	vsvm_pt_zap(vm, start, end);
	vsvm_pt_prune(vm, start, end);
	drm_gpusvm_notifier_unlock(&vm->gpusvm);

	drm_gpusvm_range_remove(&vm->gpusvm, &range->base);
}

/**
 * vsvm_vm_collect_locked() - Remove the ranges that are to be removed
 * @vm: The VM.
 *
 * These include the oldest, if there would be too many with one more.
 *
 * Context: Worker of the VM, the SVM lock is held.
 */
void vsvm_vm_collect_locked(struct vsvm_vm *vm)
{
	struct vsvm_range *range;

	lockdep_assert_held(&vm->svm_lock);

	while ((range = vsvm_vm_pop_garbage(vm)))
		vsvm_vm_remove_range(vm, range);

	while (vm->num_ranges >= VSVM_MAX_RANGES)
		vsvm_vm_remove_range(vm, list_first_entry(&vm->ranges,
							  struct vsvm_range,
							  link));
}

/**
 * vsvm_vm_collect() - Remove the ranges that are to be removed, if any
 * @vm: The VM.
 *
 * Context: Worker of the VM.  Takes the SVM lock.
 */
void vsvm_vm_collect(struct vsvm_vm *vm)
{
	if (list_empty_careful(&vm->garbage))
		return;

	mutex_lock(&vm->svm_lock);
	vsvm_vm_collect_locked(vm);
	mutex_unlock(&vm->svm_lock);
}

/*
 * Callbacks of GPU SVM.
 */

static struct drm_gpusvm_range *vsvm_range_alloc(struct drm_gpusvm *gpusvm)
{
	struct vsvm_vm *vm = to_vsvm_vm(gpusvm);
	struct vsvm_range *range;

	lockdep_assert_held(&vm->svm_lock);

	range = kzalloc(sizeof(*range), GFP_KERNEL_ACCOUNT);
	if (!range)
		return NULL;

	INIT_LIST_HEAD(&range->garbage_link);
	list_add_tail(&range->link, &vm->ranges);
	vm->num_ranges++;
	return &range->base;
}

static void vsvm_range_free(struct drm_gpusvm_range *base)
{
	struct vsvm_range *range = to_vsvm_range(base);
	struct vsvm_vm *vm = to_vsvm_vm(base->gpusvm);

	lockdep_assert_held(&vm->svm_lock);

	/* An mmu notifier may have made garbage of it up to its removal. */
	spin_lock(&vm->garbage_lock);
	list_del(&range->garbage_link);
	spin_unlock(&vm->garbage_lock);

	list_del(&range->link);
	vm->num_ranges--;
	kfree(range);
}

/* The GPU is not accessing anything: it holds the notifier lock while it does. */
static void vsvm_vm_invalidate(struct drm_gpusvm *gpusvm,
			       struct drm_gpusvm_notifier *notifier,
			       const struct mmu_notifier_range *mmu_range)
{
	struct drm_gpusvm_ctx ctx = { .in_notifier = true };
	struct vsvm_vm *vm = to_vsvm_vm(gpusvm);
	struct drm_gpusvm_range *range = NULL;
	unsigned long start, end;

	lockdep_assert_held_write(&gpusvm->notifier_lock);

	start = max(mmu_range->start, drm_gpusvm_notifier_start(notifier));
	end = min(mmu_range->end, drm_gpusvm_notifier_end(notifier));
	trace_vsvm_invalidate(vm, start, end, mmu_range->event);

	drm_gpusvm_for_each_range(range, notifier, start, end) {
		vsvm_pt_zap(vm, drm_gpusvm_range_start(range),
			    drm_gpusvm_range_end(range));
		drm_gpusvm_range_unmap_pages(gpusvm, range, &ctx);
		if (mmu_range->event == MMU_NOTIFY_UNMAP) {
			drm_gpusvm_range_set_unmapped(range, mmu_range);
			vsvm_vm_add_garbage(vm, to_vsvm_range(range));
		}
	}
}

static const struct drm_gpusvm_ops vsvm_gpusvm_ops = {
	.range_alloc = vsvm_range_alloc,
	.range_free = vsvm_range_free,
	.invalidate = vsvm_vm_invalidate,
};

/*
 * VMs.
 */

/* The sizes of ranges: descending, and none twice. */
static int vsvm_vm_init_chunks(struct vsvm_vm *vm)
{
	int n = 0;

	vm->chunk_sizes[n++] = vsvm_mem_chunk(vm->vdev);
	if (vm->chunk_sizes[0] > SZ_64K && SZ_64K > PAGE_SIZE)
		vm->chunk_sizes[n++] = SZ_64K;
	if (vm->chunk_sizes[n - 1] > PAGE_SIZE)
		vm->chunk_sizes[n++] = PAGE_SIZE;
	return n;
}

static int vsvm_vm_init_gpusvm(struct vsvm_vm *vm)
{
	int ret;

	ret = drm_gpusvm_init(&vm->gpusvm, "vsvm", &vm->vdev->drm, vm->mm,
			      vsvm_owner(), 0, vm->mm->task_size,
			      VSVM_NOTIFIER_SIZE, &vsvm_gpusvm_ops,
			      vm->chunk_sizes, vsvm_vm_init_chunks(vm));
	if (ret)
		return ret;

	drm_gpusvm_driver_set_lock(&vm->gpusvm, &vm->svm_lock);

	/* Tell lockdep the order, before the first page fault does. */
	mutex_lock(&vm->svm_lock);
	might_lock_read(&vm->mm->mmap_lock);
	mutex_unlock(&vm->svm_lock);
	return 0;
}

/* Called inside drm_dev_enter(), so that the device's removal finds the VM. */
static struct vsvm_vm *vsvm_vm_create(struct vsvm_device *vdev,
				      struct vsvm_client *client)
{
	struct vsvm_vm *vm;
	int ret;

	vm = kzalloc(sizeof(*vm), GFP_KERNEL_ACCOUNT);
	if (!vm)
		return ERR_PTR(-ENOMEM);

	kref_init(&vm->ref);
	mutex_init(&vm->svm_lock);
	spin_lock_init(&vm->garbage_lock);
	INIT_LIST_HEAD(&vm->ranges);
	INIT_LIST_HEAD(&vm->garbage);
	/* Or else nodes are paid for by nobody, whatever the store asks for. */
	xa_init_flags(&vm->leaves, XA_FLAGS_ACCOUNT);
	mt_init_flags(&vm->advice, MT_FLAGS_LOCK_EXTERN);
	mt_set_external_lock(&vm->advice, &vm->svm_lock);
	vm->vdev = vdev;
	vm->client = client;
	vm->mm = current->mm;
	vm->context = dma_fence_context_alloc(1);
	vm->pid = task_tgid_nr(current);

	ret = -ENOMEM;
	vm->user = vsvm_user_get();
	if (!vm->user)
		goto err_free;
	ret = vsvm_queue_init(vm);
	if (ret)
		goto err_user;
	ret = vsvm_vm_init_gpusvm(vm);
	if (ret)
		goto err_queue;

	mmgrab(vm->mm);
	kref_get(&client->ref);
	mutex_lock(&vdev->vms_lock);
	list_add_tail(&vm->link, &vdev->vms);
	mutex_unlock(&vdev->vms_lock);
	return vm;

err_queue:
	vsvm_queue_fini(vm);
err_user:
	vsvm_user_put(vm->user);
err_free:
	mutex_destroy(&vm->svm_lock);
	kfree(vm);
	return ERR_PTR(ret);
}

/* Undo all mappings.  The jobs have ended. */
static void vsvm_vm_detach(struct vsvm_vm *vm)
{
	lockdep_assert_held(&vm->vdev->vms_lock);

	if (vm->detached)
		return;
	vm->detached = true;

	mutex_lock(&vm->svm_lock);
	drm_gpusvm_fini(&vm->gpusvm);
	vsvm_pt_fini(vm);
	mutex_unlock(&vm->svm_lock);
}

static void vsvm_vm_release(struct kref *ref)
{
	struct vsvm_vm *vm = container_of(ref, struct vsvm_vm, ref);
	struct vsvm_device *vdev = vm->vdev;

	/* All in one, so that the removal of the device waits for it. */
	mutex_lock(&vdev->vms_lock);
	list_del(&vm->link);
	vsvm_vm_detach(vm);
	mutex_unlock(&vdev->vms_lock);

	vsvm_queue_fini(vm);
	vsvm_advice_fini(vm);
	mutex_destroy(&vm->svm_lock);
	mmdrop(vm->mm);
	vsvm_user_put(vm->user);
	vsvm_client_put(vm->client);
	kfree(vm);
}

/**
 * vsvm_vm_put() - Drop a reference to a VM
 * @vm: The VM.
 *
 * Context: Process context, with no lock of the driver held.  Sleeps.
 */
void vsvm_vm_put(struct vsvm_vm *vm)
{
	kref_put(&vm->ref, vsvm_vm_release);
}

/*
 * Find the VM after @vm, or the first, to work with it without the lock: with a
 * reference, in exchange for that to @vm.
 */
static struct vsvm_vm *vsvm_vm_next(struct vsvm_device *vdev,
				    struct vsvm_vm *vm)
{
	struct vsvm_vm *next;

	mutex_lock(&vdev->vms_lock);
	next = list_prepare_entry(vm, &vdev->vms, link);
	list_for_each_entry_continue(next, &vdev->vms, link)
		if (kref_get_unless_zero(&next->ref))
			break;
	if (list_entry_is_head(next, &vdev->vms, link))
		next = NULL;
	mutex_unlock(&vdev->vms_lock);

	if (vm)
		vsvm_vm_put(vm);
	return next;
}

/**
 * vsvm_vm_detach_all() - Have all VMs let go of a device
 * @vdev: The device, after drm_dev_unplug().
 *
 * Ends their jobs, waits for their workers and undoes their mappings.
 */
void vsvm_vm_detach_all(struct vsvm_device *vdev)
{
	struct vsvm_vm *vm;

	/* All at once, lest there be a wait for each, one after the other. */
	mutex_lock(&vdev->vms_lock);
	list_for_each_entry(vm, &vdev->vms, link)
		vsvm_queue_cancel(vm, -ENODEV);
	mutex_unlock(&vdev->vms_lock);

	for (vm = vsvm_vm_next(vdev, NULL); vm; vm = vsvm_vm_next(vdev, vm))
		vsvm_queue_close(vm, -ENODEV);

	/* Also those that are about to be released, whose jobs have ended. */
	guard(mutex)(&vdev->vms_lock);
	list_for_each_entry(vm, &vdev->vms, link)
		vsvm_vm_detach(vm);
}

/**
 * vsvm_vm_destroy_all() - Drop all VMs of a client
 * @client: The client, whose file is being closed.
 */
void vsvm_vm_destroy_all(struct vsvm_client *client)
{
	struct vsvm_vm *vm;
	unsigned long id;

	/* As vsvm_vm_detach_all() does. */
	xa_for_each(&client->vms, id, vm)
		vsvm_queue_cancel(vm, -ECANCELED);

	xa_for_each(&client->vms, id, vm) {
		xa_erase(&client->vms, id);
		vsvm_queue_close(vm, -ECANCELED);
		vsvm_vm_put(vm);
	}
}

/**
 * vsvm_vm_get() - Look up a VM to work with
 * @file: The open file.
 * @id: Handle of the VM.
 *
 * Only its own process may work with a VM.  Hence the address space is alive as
 * long as the ioctl runs.
 *
 * Return: The VM with a reference, -ENOENT or -EPERM.
 */
struct vsvm_vm *vsvm_vm_get(struct drm_file *file, u32 id)
{
	struct vsvm_client *client = file->driver_priv;
	struct vsvm_vm *vm;

	xa_lock(&client->vms);
	vm = xa_load(&client->vms, id);
	if (vm && vm->mm == current->mm)
		kref_get(&vm->ref);
	else
		vm = ERR_PTR(vm ? -EPERM : -ENOENT);
	xa_unlock(&client->vms);
	return vm;
}

/**
 * vsvm_vm_range_end() - Check a range that user space gave
 * @vm: The VM.
 * @start: First address.
 * @size: Size in bytes.
 * @end: Where to put the end address, exclusive.
 *
 * Return: 0, or -EINVAL if it is not in pages, empty or not in the address
 * space.
 */
int vsvm_vm_range_end(struct vsvm_vm *vm, u64 start, u64 size, u64 *end)
{
	if (!size || !PAGE_ALIGNED(start | size) ||
	    check_add_overflow(start, size, end) || *end > vm->mm->task_size)
		return -EINVAL;
	return 0;
}

/**
 * vsvm_vm_check_limits() - Check how the CPU may take pages back
 * @vm: The VM.
 * @timeslice_ms: Timeslice that user space gave.
 * @fault_window: Fault window that user space gave.
 *
 * Return: 0 or -EINVAL.
 */
int vsvm_vm_check_limits(struct vsvm_vm *vm, u32 timeslice_ms, u64 fault_window)
{
	if (timeslice_ms > VSVM_MAX_TIMESLICE_MS ||
	    !PAGE_ALIGNED(fault_window) ||
	    fault_window > vsvm_mem_chunk(vm->vdev))
		return -EINVAL;
	return 0;
}

static void vsvm_vm_print(struct vsvm_vm *vm, struct drm_printer *p)
{
	struct drm_gpusvm_range_flags flags;
	struct vsvm_range *range;

	drm_printf(p, "vm %llu: pid: %d\n", vm->context, vm->pid);
	vsvm_queue_print(vm, p);

	if (mutex_lock_killable(&vm->svm_lock))
		return;
	list_for_each_entry(range, &vm->ranges, link) {
		flags.__flags = READ_ONCE(range->base.flags.__flags);
		drm_printf(p, "  %#lx-%#lx%s%s%s\n",
			   drm_gpusvm_range_start(&range->base),
			   drm_gpusvm_range_end(&range->base),
			   flags.has_dma_mapping ? " mapped" : "",
			   flags.has_devmem_pages ? " device" : "",
			   flags.unmapped ? " unmapped" : "");
	}
	mutex_unlock(&vm->svm_lock);
}

/**
 * vsvm_vm_print_all() - Print the VMs of a device and their ranges
 * @vdev: The device.
 * @p: Where to.
 */
void vsvm_vm_print_all(struct vsvm_device *vdev, struct drm_printer *p)
{
	struct vsvm_vm *vm;

	for (vm = vsvm_vm_next(vdev, NULL); vm; vm = vsvm_vm_next(vdev, vm))
		vsvm_vm_print(vm, p);
}

/**
 * vsvm_vm_create_ioctl() - DRM_IOCTL_VSVM_VM_CREATE
 * @drm: The device.
 * @data: struct drm_vsvm_vm_create.
 * @file: The open file.
 *
 * Return: 0 or a negative errno, see there.
 */
int vsvm_vm_create_ioctl(struct drm_device *drm, void *data,
			 struct drm_file *file)
{
	struct vsvm_client *client = file->driver_priv;
	struct drm_vsvm_vm_create *args = data;
	struct vsvm_vm *vm;
	int ret, idx;

	if (args->flags)
		return -EINVAL;

	if (!drm_dev_enter(drm, &idx))
		return -ENODEV;
	vm = vsvm_vm_create(to_vsvm(drm), client);
	drm_dev_exit(idx);
	if (IS_ERR(vm))
		return PTR_ERR(vm);

	ret = xa_alloc(&client->vms, &args->vm_id, vm,
		       XA_LIMIT(1, VSVM_MAX_VMS), GFP_KERNEL_ACCOUNT);
	if (ret) {
		vsvm_vm_put(vm);
		return ret == -EBUSY ? -ENOSPC : ret;
	}
	return 0;
}

/**
 * vsvm_vm_destroy_ioctl() - DRM_IOCTL_VSVM_VM_DESTROY
 * @drm: The device.
 * @data: struct drm_vsvm_vm_destroy.
 * @file: The open file.
 *
 * Return: 0 or a negative errno, see there.
 */
int vsvm_vm_destroy_ioctl(struct drm_device *drm, void *data,
			  struct drm_file *file)
{
	struct vsvm_client *client = file->driver_priv;
	struct drm_vsvm_vm_destroy *args = data;
	struct vsvm_vm *vm;

	if (args->pad)
		return -EINVAL;

	vm = xa_erase(&client->vms, args->vm_id);
	if (!vm)
		return -ENOENT;

	vsvm_queue_close(vm, -ECANCELED);
	vsvm_vm_put(vm);
	return 0;
}
