// SPDX-License-Identifier: GPL-2.0-only
/*
 * ioctls: arguments are checked here, and handles looked up.
 */

#include <linux/cleanup.h>
#include <linux/err.h>
#include <linux/mm.h>
#include <linux/overflow.h>

#include <drm/drm_drv.h>
#include <drm/drm_file.h>
#include <uapi/drm/vsvm_drm.h>

#include "vsvm_drv.h"

/* A VM by its handle, for as long as the ioctl runs. */
DEFINE_CLASS(vsvm_vm, struct vsvm_vm *, if (!IS_ERR(_T)) vsvm_vm_put(_T),
	     vsvm_vm_get(file, id), struct drm_file *file, u32 id)

/* Pages of the address space, at least one.  Finds their end. */
static int vsvm_check_range(struct vsvm_vm *vm, u64 start, u64 size, u64 *end)
{
	if (!size || !PAGE_ALIGNED(start | size) ||
	    check_add_overflow(start, size, end) || *end > vm->mm->task_size)
		return -EINVAL;
	return 0;
}

/* Check how the CPU may take pages back. */
static int vsvm_check_limits(struct vsvm_vm *vm, u32 timeslice_ms,
			     u64 fault_window)
{
	if (timeslice_ms > VSVM_MAX_TIMESLICE_MS ||
	    !PAGE_ALIGNED(fault_window) ||
	    fault_window > vsvm_mem_chunk(vm->vdev))
		return -EINVAL;
	return 0;
}

/**
 * vsvm_query_ioctl() - DRM_IOCTL_VSVM_QUERY
 * @drm: The device.
 * @data: struct drm_vsvm_query.
 * @file: The open file.
 *
 * Return: 0 or a negative errno, see there.
 */
int vsvm_query_ioctl(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct vsvm_device *vdev = to_vsvm(drm);
	struct drm_vsvm_query *args = data;

	if (args->flags)
		return -EINVAL;

	args->device = vdev->index;
	args->vram_size = (u64)vdev->pool.size << PAGE_SHIFT;
	args->page_size = PAGE_SIZE;
	args->chunk_size = vsvm_mem_chunk(vdev);
	args->max_vms = VSVM_MAX_VMS;
	args->max_timeslice_ms = VSVM_MAX_TIMESLICE_MS;
	args->max_ops = VSVM_MAX_OPS;
	args->max_syncs = VSVM_MAX_SYNCS;
	args->max_jobs = VSVM_MAX_JOBS;
	args->max_queued_ops = VSVM_MAX_QUEUED_OPS;
	args->max_job_ms = vsvm_job_limit();
	args->max_advice = VSVM_MAX_ADVICE;
	args->max_ranges = VSVM_MAX_RANGES;
	args->vram_flags = vdev->coherent ? DRM_VSVM_VRAM_COHERENT : 0;
	return 0;
}

/**
 * vsvm_stats_ioctl() - DRM_IOCTL_VSVM_STATS
 * @drm: The device.
 * @data: struct drm_vsvm_stats.
 * @file: The open file.
 *
 * Return: 0 or a negative errno, see there.
 */
int vsvm_stats_ioctl(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct vsvm_client *client = file->driver_priv;
	struct drm_vsvm_stats *args = data;

	if (args->flags || args->pad)
		return -EINVAL;

	args->vram_used = vsvm_mem_used(to_vsvm(drm), client);
	args->gpu_faults = atomic64_read(&client->gpu_faults);
	args->evictions = atomic64_read(&client->evictions);
	args->jobs = atomic64_read(&client->jobs);
	return 0;
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

	vsvm_vm_destroy(vm);
	return 0;
}

static int vsvm_check_prefetch(struct vsvm_vm *vm,
			       const struct drm_vsvm_prefetch *args)
{
	if (args->flags & ~DRM_VSVM_PREFETCH_PARTIAL)
		return -EINVAL;

	switch (args->place) {
	case DRM_VSVM_PLACE_SYSTEM:
		return args->timeslice_ms || args->fault_window ? -EINVAL : 0;
	case DRM_VSVM_PLACE_DEVICE:
		return vsvm_check_limits(vm, args->timeslice_ms,
					 args->fault_window);
	default:
		return -EINVAL;
	}
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
	u64 end;
	int ret;

	args->moved = 0;
	args->resident = 0;
	args->left = 0;

	CLASS(vsvm_vm, vm)(file, args->vm_id);
	if (IS_ERR(vm))
		return PTR_ERR(vm);

	ret = vsvm_check_prefetch(vm, args);
	if (!ret)
		ret = vsvm_check_range(vm, args->start, args->size, &end);
	if (ret)
		return ret;
	return vsvm_prefetch(vm, args, end);
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
	u64 end;
	int ret;

	if (args->flags)
		return -EINVAL;

	CLASS(vsvm_vm, vm)(file, args->vm_id);
	if (IS_ERR(vm))
		return PTR_ERR(vm);

	ret = vsvm_check_range(vm, args->start, args->size, &end);
	if (ret)
		return ret;
	return vsvm_residency(vm, args, end);
}

/**
 * vsvm_advise_ioctl() - DRM_IOCTL_VSVM_ADVISE
 * @drm: The device.
 * @data: struct drm_vsvm_advise.
 * @file: The open file.
 *
 * Return: 0 or a negative errno, see there.
 */
int vsvm_advise_ioctl(struct drm_device *drm, void *data,
		      struct drm_file *file)
{
	struct drm_vsvm_advise *args = data;
	u64 end;
	int ret;

	if (args->flags)
		return -EINVAL;

	CLASS(vsvm_vm, vm)(file, args->vm_id);
	if (IS_ERR(vm))
		return PTR_ERR(vm);

	if (args->advice > DRM_VSVM_ADVICE_DEVICE)
		return -EINVAL;
	ret = vsvm_check_limits(vm, args->timeslice_ms, args->fault_window);
	if (!ret)
		ret = vsvm_check_range(vm, args->start, args->size, &end);
	if (ret)
		return ret;
	return vsvm_range_advise(vm, args, end);
}

/**
 * vsvm_exec_ioctl() - DRM_IOCTL_VSVM_EXEC
 * @drm: The device.
 * @data: struct drm_vsvm_exec.
 * @file: The open file.
 *
 * Return: 0 or a negative errno, see there.
 */
int vsvm_exec_ioctl(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_vsvm_exec *args = data;

	if (args->flags || !args->num_ops)
		return -EINVAL;
	if (args->num_ops > VSVM_MAX_OPS || args->num_syncs > VSVM_MAX_SYNCS)
		return -E2BIG;

	CLASS(vsvm_vm, vm)(file, args->vm_id);
	if (IS_ERR(vm))
		return PTR_ERR(vm);

	return vsvm_exec(vm, file, args);
}

/**
 * vsvm_job_status_ioctl() - DRM_IOCTL_VSVM_JOB_STATUS
 * @drm: The device.
 * @data: struct drm_vsvm_job_status.
 * @file: The open file.
 *
 * Return: 0 or a negative errno, see there.
 */
int vsvm_job_status_ioctl(struct drm_device *drm, void *data,
			  struct drm_file *file)
{
	struct drm_vsvm_job_status *args = data;
	struct vsvm_failure status;
	int ret;

	if (args->pad)
		return -EINVAL;

	CLASS(vsvm_vm, vm)(file, args->vm_id);
	if (IS_ERR(vm))
		return PTR_ERR(vm);

	ret = vsvm_queue_status(&vm->queue, args->job, &status);
	if (ret)
		return ret;

	args->error = -status.error;
	args->op = status.op;
	args->address = status.address;
	return 0;
}
