// SPDX-License-Identifier: GPL-2.0-only
/**
 * DOC: Scheduling
 *
 * Each user, by the user ID of the process that makes a VM, has a workqueue for
 * the jobs of all of their VMs on all devices.  It has as many workers as there
 * are CPUs, at least four.  A user cannot use up the workers of others, with
 * any number of jobs or page faults of any length.  Workers compete for the
 * CPUs as other threads do.
 *
 * A VM has one work item, for one job after the other.  After a time slice it
 * goes to the end of the queue: the VMs of a user take turns.  A job that is in
 * the middle of an operation by then leaves its state in struct vsvm_engine, and
 * continues when it is the VM's turn again.
 *
 * A job does not sleep in a worker for the fences it waits for: the worker goes
 * away, and the fence's callback brings it back.
 *
 * A job has a time limit, since anybody may wait for its fence.  The limit is
 * on the time for which the VM has a worker, including page faults and the time
 * in which that worker waits for a CPU, but not that in which the job waits for
 * fences or for its turn.  So its fence is signalled after, at most, its own
 * limit and those of the jobs before it in the VM, the turns that other VMs of
 * the user have meanwhile, and the fences that all these jobs wait for.  The
 * limit is looked at between two steps, so a page fault may exceed it.
 *
 * When a VM or its device goes, its queue is closed.  That needs none of these
 * workers, which may all be busy: whoever closes takes the work item out of the
 * workqueue, waits for a worker that is at it, which notices between two pages,
 * and ends what jobs are left.  Where several go, all are told before the first
 * is waited for.  When the file is closed, work items of another workqueue do that
 * for its VMs.
 */

#include <linux/dma-fence.h>
#include <linux/jiffies.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>

#include <drm/drm_print.h>
#include <uapi/drm/vsvm_drm.h>

#include "vsvm_drv.h"
#include "vsvm_trace.h"

/* For how long a VM has a worker while others want one. */
#define VSVM_SLICE_MS		10

static unsigned int job_ms = 30000;
module_param(job_ms, uint, 0644);
MODULE_PARM_DESC(job_ms, "Time limit of a job in milliseconds (default 30000)");

/*
 * Execution.
 */

/**
 * vsvm_job_limit() - For how long a job may be executed
 *
 * Return: The time in milliseconds.
 */
unsigned int vsvm_job_limit(void)
{
	return READ_ONCE(job_ms);
}

static void vsvm_job_callback(struct dma_fence *fence, struct dma_fence_cb *cb)
{
	struct vsvm_job *job = container_of(cb, struct vsvm_job, callback);

	vsvm_client_kick(job->vm);
}

/* Let go of the fences that are signalled, or of all if the queue is closed. */
static bool vsvm_job_ready(struct vsvm_job *job)
{
	struct dma_fence *fence;

	while (job->num_waits) {
		fence = job->waits[job->num_waits - 1];
		if (!job->waiting)
			job->waiting = !dma_fence_add_callback(fence,
							       &job->callback,
							       vsvm_job_callback);
		if (!dma_fence_is_signaled(fence) &&
		    !READ_ONCE(job->vm->queue.closed))
			return false;

		/* When this returns, the callback has run or never will. */
		if (job->waiting)
			dma_fence_remove_callback(fence, &job->callback);
		job->waiting = false;
		dma_fence_put(fence);
		job->num_waits--;
	}
	return true;
}

static bool vsvm_job_is_done(const struct vsvm_job *job)
{
	return job->status.error || job->status.op == job->num_ops;
}

/* Execute a job up to its end, or that of the time slice.  Returns whether to end it. */
static bool vsvm_job_run(struct vsvm_job *job, unsigned long slice_end)
{
	struct vsvm_failure *status = &job->status;
	ktime_t began = ktime_get();
	int ret;

	if (!job->begun)
		trace_vsvm_job_begin(job->vm, status->job, job->num_ops);
	job->begun = true;

	status->error = READ_ONCE(job->vm->queue.closed);
	while (!vsvm_job_is_done(job)) {
		ret = vsvm_engine_step(&job->engine, &job->ops[status->op]);
		if (ret < 0)
			status->error = ret;
		else if (!ret)
			status->op++;
		if (time_after_eq(jiffies, slice_end))
			break;
	}
	if (status->error != -ENODEV && status->error != -ECANCELED)
		status->address = job->engine.address;

	job->ran = ktime_add(job->ran, ktime_sub(ktime_get(), began));
	if (!vsvm_job_is_done(job) &&
	    ktime_to_ms(job->ran) >= vsvm_job_limit())
		status->error = -ETIME;
	return vsvm_job_is_done(job);
}

/* The status can be read before the fence tells that it is there. */
static void vsvm_job_end(struct vsvm_job *job)
{
	struct vsvm_vm *vm = job->vm;
	struct vsvm_queue *queue = &vm->queue;

	trace_vsvm_job_end(vm, &job->status);
	atomic64_inc(&vm->vdev->jobs);
	atomic64_inc(&vm->client->jobs);

	spin_lock(&queue->lock);
	list_del(&job->link);
	queue->num_jobs--;
	queue->ended = job->status.job;
	if (job->status.error)
		queue->failures[queue->num_failures++ % VSVM_MAX_FAILURES] =
			job->status;
	spin_unlock(&queue->lock);

	vsvm_job_signal(job);
	vsvm_job_free(job);
}

static struct vsvm_job *vsvm_queue_first(struct vsvm_queue *queue)
{
	struct vsvm_job *job;

	spin_lock(&queue->lock);
	job = list_first_entry_or_null(&queue->jobs, struct vsvm_job, link);
	spin_unlock(&queue->lock);
	return job;
}

/* Execute jobs for a time slice.  Returns whether one can go on after it. */
static bool vsvm_queue_slice(struct vsvm_queue *queue)
{
	unsigned long slice_end = jiffies + msecs_to_jiffies(VSVM_SLICE_MS);
	struct vsvm_job *job;

	do {
		job = vsvm_queue_first(queue);
		if (!job || !vsvm_job_ready(job))
			return false;
		if (vsvm_job_run(job, slice_end))
			vsvm_job_end(job);
	} while (time_before(jiffies, slice_end));
	return true;
}

static void vsvm_queue_worker(struct work_struct *work)
{
	struct vsvm_queue *queue = container_of(work, struct vsvm_queue, work);
	struct vsvm_vm *vm = container_of(queue, struct vsvm_vm, queue);

	vsvm_range_collect(vm);
	if (vsvm_queue_slice(queue))
		vsvm_client_kick(vm);
}

/*
 * Queues.
 */

/**
 * vsvm_queue_init() - Set up the jobs of a VM
 * @vm: The VM.
 *
 * Return: 0 or -ENOMEM.
 */
int vsvm_queue_init(struct vsvm_vm *vm)
{
	struct vsvm_queue *queue = &vm->queue;

	queue->buffer = kmalloc(PAGE_SIZE, GFP_KERNEL_ACCOUNT);
	if (!queue->buffer)
		return -ENOMEM;

	spin_lock_init(&queue->lock);
	mutex_init(&queue->close_lock);
	INIT_LIST_HEAD(&queue->jobs);
	INIT_WORK(&queue->work, vsvm_queue_worker);
	return 0;
}

/**
 * vsvm_queue_add() - Queue a job
 * @queue: The queue.
 * @job: The job.  It may end as soon as the lock is dropped.
 *
 * Context: The lock of the queue is held.
 * Return: 0, -ENODEV or -ENOENT if the queue is closed, -EBUSY if it is full.
 */
int vsvm_queue_add(struct vsvm_queue *queue, struct vsvm_job *job)
{
	lockdep_assert_held(&queue->lock);

	if (queue->closed)
		return queue->closed == -ENODEV ? -ENODEV : -ENOENT;
	if (queue->num_jobs == VSVM_MAX_JOBS)
		return -EBUSY;

	vsvm_job_arm(job, ++queue->last);
	list_add_tail(&job->link, &queue->jobs);
	queue->num_jobs++;
	return 0;
}

/**
 * vsvm_queue_status() - Look up how a job ended
 * @queue: The queue.
 * @job: Number of the job.
 * @status: Where to put it.
 *
 * Return: 0, -EINVAL if there is no such job, or -EBUSY if it has not ended.
 */
int vsvm_queue_status(struct vsvm_queue *queue, u64 job,
		      struct vsvm_failure *status)
{
	unsigned int i;
	int ret = 0;

	*status = (struct vsvm_failure) { .job = job };

	spin_lock(&queue->lock);
	if (!job || job > queue->last)
		ret = -EINVAL;
	else if (job > queue->ended)
		ret = -EBUSY;
	for (i = 0; !ret && i < VSVM_MAX_FAILURES; i++)
		if (queue->failures[i].job == job)
			*status = queue->failures[i];
	spin_unlock(&queue->lock);
	return ret;
}

/**
 * vsvm_queue_cancel() - Tell all jobs of a VM to end
 * @vm: The VM.
 * @err: The negative errno that they end with.  The first one counts.
 *
 * From now on none can be queued.  Does not wait for any; vsvm_queue_close() is
 * to follow.
 *
 * Context: Any but interrupts.
 */
void vsvm_queue_cancel(struct vsvm_vm *vm, int err)
{
	struct vsvm_queue *queue = &vm->queue;

	spin_lock(&queue->lock);
	if (!queue->closed)
		WRITE_ONCE(queue->closed, err);
	spin_unlock(&queue->lock);
}

/**
 * vsvm_queue_close() - End all jobs of a VM for good
 * @vm: The VM.
 * @err: As for vsvm_queue_cancel().
 *
 * On return no job is left, and none can be queued.
 *
 * Context: Process context, with no lock held that a page fault of the GPU takes.
 */
void vsvm_queue_close(struct vsvm_vm *vm, int err)
{
	struct vsvm_queue *queue = &vm->queue;
	struct vsvm_job *job;

	vsvm_queue_cancel(vm, err);

	/* From here on the jobs belong to whoever has the lock. */
	guard(mutex)(&queue->close_lock);
	disable_work_sync(&queue->work);
	while ((job = vsvm_queue_first(queue))) {
		vsvm_job_ready(job);
		vsvm_job_run(job, jiffies);
		vsvm_job_end(job);
	}
}

/**
 * vsvm_queue_fini() - Undo vsvm_queue_init()
 * @vm: The VM, whose queue was closed or never used.
 */
void vsvm_queue_fini(struct vsvm_vm *vm)
{
	/* An mmu notifier may have called just before its end. */
	cancel_work_sync(&vm->queue.work);
	mutex_destroy(&vm->queue.close_lock);
	kfree(vm->queue.buffer);
}

/**
 * vsvm_queue_print() - Print how many jobs there are
 * @vm: The VM.
 * @p: Where to.
 */
void vsvm_queue_print(struct vsvm_vm *vm, struct drm_printer *p)
{
	struct vsvm_queue *queue = &vm->queue;
	u64 ended, failures;
	unsigned int queued;

	spin_lock(&queue->lock);
	ended = queue->ended;
	failures = queue->num_failures;
	queued = queue->num_jobs;
	spin_unlock(&queue->lock);

	drm_printf(p, "  jobs: %llu, of which failed: %llu, queued: %u\n", ended,
		   failures, queued);
}
