// SPDX-License-Identifier: GPL-2.0-only
/*
 * Jobs: lists of operations that a VM executes in order, with fences.  What
 * happens to a job once it is queued is in vsvm_sched.c.
 */

#include <linux/dma-fence.h>
#include <linux/dma-fence-chain.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include <drm/drm_syncobj.h>
#include <uapi/drm/vsvm_drm.h>

#include "vsvm_drv.h"

/**
 * struct vsvm_fence - what is signalled when a job ends
 * @base: The fence.  Outlives the job, the VM and the device, in a sync_file
 *        for instance.  Since it needs vsvm_fence_ops, it holds the module.
 * @lock: Its lock.
 */
struct vsvm_fence {
	struct dma_fence base;
	/* What dma_fence wants. */
	spinlock_t lock;
};

/**
 * struct vsvm_signal - a syncobj that a job signals
 * @syncobj: The syncobj.
 * @chain: For a timeline: memory for its new point.
 * @point: The point.
 */
struct vsvm_signal {
	struct drm_syncobj *syncobj;
	struct dma_fence_chain *chain;
	u64 point;
};

/**
 * struct vsvm_submit - an ioctl in progress
 * @file: The open file.
 * @args: What user space wants.
 * @job: The job, until it is queued.
 * @signals: Syncobjs to give the fence to.
 * @num_signals: Their number.
 */
struct vsvm_submit {
	struct drm_file *file;
	const struct drm_vsvm_exec *args;
	struct vsvm_job *job;
	struct vsvm_signal *signals;
	unsigned int num_signals;
};

/*
 * Fences.
 */

static const char *vsvm_fence_driver_name(struct dma_fence *fence)
{
	return "vsvm";
}

static const char *vsvm_fence_timeline_name(struct dma_fence *fence)
{
	return "vm";
}

/* See vsvm_exit() for the end of this function. */
static void vsvm_fence_release(struct dma_fence *fence)
{
	dma_fence_free(fence);
	module_put(THIS_MODULE);
}

static const struct dma_fence_ops vsvm_fence_ops = {
	.get_driver_name = vsvm_fence_driver_name,
	.get_timeline_name = vsvm_fence_timeline_name,
	.release = vsvm_fence_release,
};

/**
 * vsvm_job_signal() - Tell whoever waits that a job has ended
 * @job: The job.
 */
void vsvm_job_signal(struct vsvm_job *job)
{
	struct dma_fence *fence = &job->fence->base;

	if (job->status.error)
		dma_fence_set_error(fence, job->status.error);
	dma_fence_signal(fence);
	dma_fence_put(fence);
}

/**
 * vsvm_job_free() - Free a job
 * @job: The job, whose fence is somebody else's.
 */
void vsvm_job_free(struct vsvm_job *job)
{
	while (job->num_waits)
		dma_fence_put(job->waits[--job->num_waits]);
	kvfree(job->waits);
	kvfree(job->ops);
	atomic_sub(job->num_ops, &job->vm->client->queued_ops);
	kfree(job);
}

/*
 * Submission.
 */

static int vsvm_submit_wait(struct vsvm_submit *submit,
			    const struct drm_vsvm_sync *sync)
{
	struct vsvm_job *job = submit->job;
	int ret;

	ret = drm_syncobj_find_fence(submit->file, sync->handle, sync->point, 0,
				     &job->waits[job->num_waits]);
	if (!ret)
		job->num_waits++;
	return ret;
}

static int vsvm_submit_signal(struct vsvm_submit *submit,
			      const struct drm_vsvm_sync *sync)
{
	struct vsvm_signal *signal = &submit->signals[submit->num_signals];

	signal->point = sync->point;
	if (signal->point) {
		signal->chain = dma_fence_chain_alloc();
		if (!signal->chain)
			return -ENOMEM;
	}

	signal->syncobj = drm_syncobj_find(submit->file, sync->handle);
	if (!signal->syncobj) {
		dma_fence_chain_free(signal->chain);
		return -ENOENT;
	}
	submit->num_signals++;
	return 0;
}

static int vsvm_submit_syncs(struct vsvm_submit *submit)
{
	const struct drm_vsvm_exec *args = submit->args;
	struct drm_vsvm_sync __user *from = u64_to_user_ptr(args->syncs);
	struct drm_vsvm_sync sync;
	unsigned int i;
	int ret;

	submit->job->waits = kvcalloc(args->num_syncs,
				      sizeof(*submit->job->waits),
				      GFP_KERNEL_ACCOUNT);
	submit->signals = kvcalloc(args->num_syncs, sizeof(*submit->signals),
				   GFP_KERNEL_ACCOUNT);
	if (!submit->job->waits || !submit->signals)
		return -ENOMEM;

	for (i = 0; i < args->num_syncs; i++) {
		if (copy_from_user(&sync, from + i, sizeof(sync)))
			return -EFAULT;
		if (sync.flags & ~DRM_VSVM_SYNC_SIGNAL)
			return -EINVAL;

		ret = sync.flags & DRM_VSVM_SYNC_SIGNAL ?
		      vsvm_submit_signal(submit, &sync) :
		      vsvm_submit_wait(submit, &sync);
		if (ret)
			return ret;
	}
	return 0;
}

static int vsvm_submit_ops(struct vsvm_submit *submit)
{
	const struct drm_vsvm_exec *args = submit->args;
	struct vsvm_job *job = submit->job;
	size_t size = array_size(args->num_ops, sizeof(*job->ops));
	unsigned int i;
	int ret;

	/* Given back by vsvm_job_free(). */
	job->num_ops = args->num_ops;
	if (atomic_add_return(job->num_ops, &job->vm->client->queued_ops) >
	    VSVM_MAX_QUEUED_OPS)
		return -EBUSY;

	job->ops = kvmalloc(size, GFP_KERNEL_ACCOUNT);
	if (!job->ops)
		return -ENOMEM;
	if (copy_from_user(job->ops, u64_to_user_ptr(args->ops), size))
		return -EFAULT;

	for (i = 0; i < job->num_ops; i++) {
		ret = vsvm_engine_check(&job->ops[i], job->vm->mm->task_size);
		if (ret)
			return ret;
	}
	return 0;
}

static int vsvm_queue_add(struct vsvm_queue *queue, struct vsvm_job *job)
{
	struct vsvm_fence *fence = job->fence;

	lockdep_assert_held(&queue->lock);

	if (queue->closed)
		return queue->closed == -ENODEV ? -ENODEV : -ENOENT;
	if (queue->num_jobs == VSVM_MAX_JOBS)
		return -EBUSY;

	/* The open file holds one already. */
	__module_get(THIS_MODULE);
	job->status.job = ++queue->last;
	dma_fence_init(&fence->base, &vsvm_fence_ops, &fence->lock,
		       job->vm->context, job->status.job);
	list_add_tail(&job->link, &queue->jobs);
	queue->num_jobs++;
	return 0;
}

/* Queue the job.  It may end at any time then, and only its fence is left. */
static int vsvm_submit_queue(struct vsvm_submit *submit, u64 *id,
			     struct dma_fence **fence)
{
	struct vsvm_job *job = submit->job;
	struct vsvm_queue *queue = &job->vm->queue;
	int ret;

	spin_lock_irq(&queue->lock);
	ret = vsvm_queue_add(queue, job);
	if (!ret) {
		*id = job->status.job;
		*fence = dma_fence_get(&job->fence->base);
		submit->job = NULL;
	}
	spin_unlock_irq(&queue->lock);
	return ret;
}

static void vsvm_submit_attach(struct vsvm_submit *submit,
			       struct dma_fence *fence)
{
	struct vsvm_signal *signal;
	unsigned int i;

	for (i = 0; i < submit->num_signals; i++) {
		signal = &submit->signals[i];
		if (signal->chain)
			drm_syncobj_add_point(signal->syncobj, signal->chain,
					      fence, signal->point);
		else
			drm_syncobj_replace_fence(signal->syncobj, fence);
		/* The chain is the syncobj's now. */
		signal->chain = NULL;
	}
}

static void vsvm_submit_fini(struct vsvm_submit *submit)
{
	struct vsvm_signal *signal;

	while (submit->num_signals) {
		signal = &submit->signals[--submit->num_signals];
		dma_fence_chain_free(signal->chain);
		drm_syncobj_put(signal->syncobj);
	}
	kvfree(submit->signals);

	if (submit->job) {
		kfree(submit->job->fence);
		vsvm_job_free(submit->job);
	}
}

static int vsvm_submit_init(struct vsvm_submit *submit, struct vsvm_vm *vm)
{
	struct vsvm_job *job;

	job = kzalloc(sizeof(*job), GFP_KERNEL_ACCOUNT);
	if (!job)
		return -ENOMEM;

	submit->job = job;
	job->vm = vm;
	job->engine.vm = vm;
	job->engine.buffer = vm->queue.buffer;
	job->fence = kzalloc(sizeof(*job->fence), GFP_KERNEL_ACCOUNT);
	if (!job->fence)
		return -ENOMEM;
	spin_lock_init(&job->fence->lock);
	return 0;
}

static int vsvm_vm_exec(struct vsvm_vm *vm, struct drm_file *file,
			struct drm_vsvm_exec *args)
{
	struct vsvm_submit submit = { .file = file, .args = args };
	struct dma_fence *fence;
	int ret;

	ret = vsvm_submit_init(&submit, vm);
	if (!ret)
		ret = vsvm_submit_ops(&submit);
	if (!ret)
		ret = vsvm_submit_syncs(&submit);
	if (ret)
		goto out_fini;

	ret = vsvm_submit_queue(&submit, &args->job, &fence);
	if (ret)
		goto out_fini;

	vsvm_submit_attach(&submit, fence);
	dma_fence_put(fence);
	vsvm_queue_kick(vm);

out_fini:
	vsvm_submit_fini(&submit);
	return ret;
}

/**
 * vsvm_exec_ioctl() - DRM_IOCTL_VSVM_EXEC
 * @drm: The device.
 * @data: struct drm_vsvm_exec.
 * @file: The open file.
 *
 * Return: 0 or a negative errno, see there.
 */
int vsvm_exec_ioctl(struct drm_device *drm, void *data,
		    struct drm_file *file)
{
	struct drm_vsvm_exec *args = data;
	struct vsvm_vm *vm;
	int ret;

	if (args->flags || !args->num_ops)
		return -EINVAL;
	if (args->num_ops > VSVM_MAX_OPS || args->num_syncs > VSVM_MAX_SYNCS)
		return -E2BIG;

	vm = vsvm_vm_get(file, args->vm_id);
	if (IS_ERR(vm))
		return PTR_ERR(vm);

	ret = vsvm_vm_exec(vm, file, args);
	vsvm_vm_put(vm);
	return ret;
}

static int vsvm_queue_status(struct vsvm_queue *queue, u64 job,
			     struct vsvm_failure *status)
{
	unsigned int i;
	int ret = 0;

	*status = (struct vsvm_failure) { .job = job };

	spin_lock_irq(&queue->lock);
	if (!job || job > queue->last)
		ret = -EINVAL;
	else if (job > queue->ended)
		ret = -EBUSY;
	for (i = 0; !ret && i < VSVM_MAX_FAILURES; i++)
		if (queue->failures[i].job == job)
			*status = queue->failures[i];
	spin_unlock_irq(&queue->lock);
	return ret;
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
	struct vsvm_vm *vm;
	int ret;

	if (args->pad)
		return -EINVAL;

	vm = vsvm_vm_get(file, args->vm_id);
	if (IS_ERR(vm))
		return PTR_ERR(vm);

	ret = vsvm_queue_status(&vm->queue, args->job, &status);
	if (!ret) {
		args->error = -status.error;
		args->op = status.op;
		args->address = status.address;
	}
	vsvm_vm_put(vm);
	return ret;
}
