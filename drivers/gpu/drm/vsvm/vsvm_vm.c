// SPDX-License-Identifier: GPL-2.0-only
/*
 * VMs: which process's memory a device works on.
 */

#include <linux/cred.h>
#include <linux/dma-fence.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/wait_bit.h>
#include <linux/workqueue.h>

#include <drm/drm_drv.h>
#include <drm/drm_print.h>

#include "vsvm_drv.h"

/* For how long closing a file waits for its VMs. */
#define VSVM_CLOSE_TIMEOUT	(HZ / 10)

static void vsvm_vm_close_work(struct work_struct *work)
{
	vsvm_vm_destroy(container_of(work, struct vsvm_vm, close_work));
}

/**
 * vsvm_vm_create() - Make a VM of the calling process
 * @vdev: The device.
 * @client: The file it belongs to.
 *
 * Context: Inside drm_dev_enter(), so that the device's removal finds the VM.
 * Return: The VM with a reference, or an ERR_PTR().
 */
struct vsvm_vm *vsvm_vm_create(struct vsvm_device *vdev,
			       struct vsvm_client *client)
{
	struct vsvm_vm *vm;
	int ret;

	vm = kzalloc(sizeof(*vm), GFP_KERNEL_ACCOUNT);
	if (!vm)
		return ERR_PTR(-ENOMEM);

	kref_init(&vm->ref);
	mutex_init(&vm->svm_lock);
	INIT_WORK(&vm->close_work, vsvm_vm_close_work);
	vm->vdev = vdev;
	vm->client = client;
	vm->mm = current->mm;
	vm->context = dma_fence_context_alloc(1);
	vm->pid = task_tgid_nr(current);

	vm->user = vsvm_user_get();
	ret = PTR_ERR_OR_ZERO(vm->user);
	if (ret)
		goto err_free;
	ret = vsvm_queue_init(vm);
	if (ret)
		goto err_user;
	ret = vsvm_range_init(vm);
	if (ret)
		goto err_queue;

	mmgrab(vm->mm);
	vm->cred = get_current_cred();
	kref_get(&client->ref);
	atomic_inc(&client->num_vms);
	drm_dev_get(&vdev->drm);
	spin_lock(&vdev->vms_lock);
	list_add_tail(&vm->link, &vdev->vms);
	spin_unlock(&vdev->vms_lock);
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

static void vsvm_vm_release(struct kref *ref)
{
	struct vsvm_vm *vm = container_of(ref, struct vsvm_vm, ref);
	struct vsvm_device *vdev = vm->vdev;

	/* That may take as long as the process likes: no lock of others. */
	if (!vm->detached)
		vsvm_range_fini(vm);

	/* Only now, since the removal of the device waits for it. */
	spin_lock(&vdev->vms_lock);
	list_del(&vm->link);
	spin_unlock(&vdev->vms_lock);
	wake_up_var(&vdev->vms);

	vsvm_queue_fini(vm);
	vsvm_advice_fini(vm);
	mutex_destroy(&vm->svm_lock);
	put_cred(vm->cred);
	mmdrop(vm->mm);
	vsvm_user_put(vm->user);
	if (atomic_dec_and_test(&vm->client->num_vms))
		wake_up_var(&vm->client->num_vms);
	vsvm_client_put(vm->client);
	kfree(vm);
	drm_dev_put(&vdev->drm);
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

	spin_lock(&vdev->vms_lock);
	next = list_prepare_entry(vm, &vdev->vms, link);
	list_for_each_entry_continue(next, &vdev->vms, link)
		if (kref_get_unless_zero(&next->ref))
			break;
	if (list_entry_is_head(next, &vdev->vms, link))
		next = NULL;
	spin_unlock(&vdev->vms_lock);

	if (vm)
		vsvm_vm_put(vm);
	return next;
}

static bool vsvm_vm_all_detached(struct vsvm_device *vdev)
{
	struct vsvm_vm *vm;
	bool all = true;

	spin_lock(&vdev->vms_lock);
	list_for_each_entry(vm, &vdev->vms, link)
		all &= vm->detached;
	spin_unlock(&vdev->vms_lock);

	return all;
}

/**
 * vsvm_vm_detach_all() - Have all VMs let go of a device
 * @vdev: The device, after drm_dev_unplug().
 *
 * Ends their jobs, waits for their workers and undoes their mappings, or waits for
 * those who do so.
 */
void vsvm_vm_detach_all(struct vsvm_device *vdev)
{
	struct vsvm_vm *vm;

	/* All at once, to avoid a wait for each, one after the other. */
	spin_lock(&vdev->vms_lock);
	list_for_each_entry(vm, &vdev->vms, link)
		vsvm_queue_cancel(vm, -ENODEV);
	spin_unlock(&vdev->vms_lock);

	for (vm = vsvm_vm_next(vdev, NULL); vm; vm = vsvm_vm_next(vdev, vm)) {
		vsvm_queue_close(vm, -ENODEV);
		vsvm_range_fini(vm);
		vm->detached = true;
	}

	/* What is left is being released. */
	wait_var_event(&vdev->vms, vsvm_vm_all_detached(vdev));
}

/**
 * vsvm_vm_destroy() - End the jobs of a VM whose handle is gone, and drop it
 * @vm: The VM.
 *
 * Context: Process context, with no lock of the driver held.  Sleeps.
 */
void vsvm_vm_destroy(struct vsvm_vm *vm)
{
	vsvm_queue_close(vm, -ECANCELED);
	vsvm_vm_put(vm);
}

/**
 * vsvm_vm_destroy_all() - Drop all VMs of a client
 * @client: The client, whose file is being closed.
 *
 * Does not wait for long.  A process can pass the file on, and the last to close it
 * may be anybody, even the work item that closes files for all of the kernel.
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
		vsvm_client_close(vm);
	}

	/* Most often it is the process, which should not get ahead of this. */
	if (!(current->flags & PF_KTHREAD))
		wait_var_event_timeout(&client->num_vms,
				       !atomic_read(&client->num_vms),
				       VSVM_CLOSE_TIMEOUT);
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

static void vsvm_vm_print(struct vsvm_vm *vm, struct drm_printer *p)
{
	drm_printf(p, "vm %llu: pid: %d\n", vm->context, vm->pid);
	vsvm_queue_print(vm, p);
	vsvm_range_print(vm, p);
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
