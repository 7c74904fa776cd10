// SPDX-License-Identifier: GPL-2.0-only
/*
 * Submission: jobs are taken from user space, checked and queued.  The rest of
 * their life is in vsvm_job.c and vsvm_sched.c.
 */

#include <linux/dma-fence.h>
#include <linux/dma-fence-chain.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include <drm/drm_syncobj.h>
#include <uapi/drm/vsvm_drm.h>

#include "vsvm_drv.h"

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
 * @args: Arguments of the ioctl.
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

static int vsvm_submit_wait(struct vsvm_submit *submit,
			    const struct drm_vsvm_sync *sync)
{
	struct vsvm_job *job = submit->job;
	int ret;

	ret = drm_syncobj_find_fence(submit->file, sync->handle,
				     sync->timeline_value, 0,
				     &job->waits[job->num_waits]);
	if (!ret)
		job->num_waits++;
	return ret;
}

static int vsvm_submit_signal(struct vsvm_submit *submit,
			      const struct drm_vsvm_sync *sync)
{
	struct vsvm_signal *signal = &submit->signals[submit->num_signals];

	signal->point = sync->timeline_value;
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

/* Queue the job.  It may end at any time then, and only its fence is left. */
static int vsvm_submit_queue(struct vsvm_submit *submit, u64 *id,
			     struct dma_fence **fence)
{
	struct vsvm_job *job = submit->job;
	struct vsvm_queue *queue = &job->vm->queue;
	int ret;

	spin_lock(&queue->lock);
	ret = vsvm_queue_add(queue, job);
	if (!ret) {
		*id = job->status.job;
		*fence = vsvm_job_fence(job);
		submit->job = NULL;
	}
	spin_unlock(&queue->lock);
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

	if (submit->job)
		vsvm_job_abort(submit->job);
}

/**
 * vsvm_exec() - Queue a job
 * @vm: The VM.
 * @file: The open file.
 * @args: Arguments of the ioctl; returns the number of the job.
 *
 * Return: 0 or a negative errno, see &struct drm_vsvm_exec.
 */
int vsvm_exec(struct vsvm_vm *vm, struct drm_file *file,
	      struct drm_vsvm_exec *args)
{
	struct vsvm_submit submit = { .file = file, .args = args };
	struct dma_fence *fence;
	int ret;

	submit.job = vsvm_job_create(vm);
	if (!submit.job)
		return -ENOMEM;

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
	vsvm_client_kick(vm);

out_fini:
	vsvm_submit_fini(&submit);
	return ret;
}
