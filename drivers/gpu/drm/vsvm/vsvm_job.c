// SPDX-License-Identifier: GPL-2.0-only
/*
 * Jobs: lists of operations that a VM executes in order, and their fences.
 */

#include <linux/dma-fence.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>

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
	/* As dma_fence requires. */
	spinlock_t lock;
};

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
 * vsvm_job_create() - Make an empty job
 * @vm: The VM.
 *
 * Return: The job, or NULL if there is no memory.
 */
struct vsvm_job *vsvm_job_create(struct vsvm_vm *vm)
{
	struct vsvm_job *job;

	job = kzalloc(sizeof(*job), GFP_KERNEL_ACCOUNT);
	if (!job)
		return NULL;

	job->fence = kzalloc(sizeof(*job->fence), GFP_KERNEL_ACCOUNT);
	if (!job->fence) {
		kfree(job);
		return NULL;
	}

	spin_lock_init(&job->fence->lock);
	job->vm = vm;
	job->engine.vm = vm;
	job->engine.buffer = vm->queue.buffer;
	return job;
}

/**
 * vsvm_job_arm() - Give a job its number, and make its fence one to wait for
 * @job: The job.
 * @number: The number.
 *
 * From now on the job has to be signalled.
 */
void vsvm_job_arm(struct vsvm_job *job, u64 number)
{
	struct vsvm_fence *fence = job->fence;

	/* The open file holds one already. */
	__module_get(THIS_MODULE);
	job->status.job = number;
	dma_fence_init(&fence->base, &vsvm_fence_ops, &fence->lock,
		       job->vm->context, number);
}

/**
 * vsvm_job_fence() - The fence of a job
 * @job: The job, armed and not signalled yet.
 *
 * Return: The fence with a reference.
 */
struct dma_fence *vsvm_job_fence(struct vsvm_job *job)
{
	return dma_fence_get(&job->fence->base);
}

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

/**
 * vsvm_job_abort() - Free a job that was not queued
 * @job: The job.
 */
void vsvm_job_abort(struct vsvm_job *job)
{
	kfree(job->fence);
	vsvm_job_free(job);
}
