/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _VSVM_DRV_H_
#define _VSVM_DRV_H_

#include <linux/atomic.h>
#include <linux/dma-fence.h>
#include <linux/kref.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/maple_tree.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/sizes.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include <drm/drm_device.h>
#include <drm/drm_file.h>
#include <drm/drm_gpusvm.h>
#include <drm/drm_mm.h>
#include <drm/drm_pagemap.h>
#include <uapi/drm/vsvm_drm.h>

struct cred;
struct drm_memory_stats;
struct drm_printer;
struct vsvm_fence;
struct vsvm_user;

/**
 * DOC: Life times
 *
 * A struct vsvm_device lives as long as an open file, a VM or the bound device
 * needs it.  Its region and the memory behind it go when the device is unbound:
 * drm_dev_unplug() lets no new user in and waits for those inside
 * drm_dev_enter(), vsvm_vm_detach_all() ends the jobs of all VMs, waits for
 * their workers and undoes their mappings, drm_pagemap_region_unplug() brings
 * every page back to system memory and every struct vsvm_bo to its release, and
 * only then devres unmaps the region and frees what is behind it.
 *
 * drm_dev_enter() is for short stays, in which nobody waits for a process:
 * drm_dev_unplug() waits for those inside, whichever DRM device they are at.  A
 * worker is outside.  Up to its end, vsvm_vm_detach_all() does not return.
 *
 * A struct vsvm_vm lives as long as its handle, an ioctl that uses it, or an
 * unbind that ends its jobs.  These do not keep it: they are ended when the
 * handle goes.  If that is because the file is closed, a work item does it, and
 * the VM may outlive the file, but not the module.  It holds the struct
 * mm_struct but, beyond a page fault, not the memory of the process: when that
 * exits, the mappings go by mmu notifiers, and jobs end at their next access.
 *
 * A struct vsvm_bo belongs to the pages in it, which belong to processes.  It
 * outlives the VM, the file and the process that made it, and points only to
 * the struct vsvm_client, which is counted.
 */

/**
 * DOC: Lock order
 *
 * From the outside in::
 *
 *   vsvm_queue.close_lock
 *   vsvm_vm.svm_lock
 *     locks of memory hotplug           (before the mmap lock is taken)
 *     mm->mmap_lock                     (read)
 *       page locks                      (taken by DRM pagemap and by mm)
 *         vsvm_pool.lock
 *           memory reclaim
 *             mmu notifiers
 *               drm_gpusvm.notifier_lock  (write; read when the GPU accesses)
 *                 vsvm_vm.garbage_lock, the page table
 *               vsvm_snapshot.lock
 *
 * drm_dev_enter() comes after the mmap lock.  Nobody waits inside for that or for
 * the SVM lock, which a page fault may have for as long as the process likes.
 *
 * &vsvm_queue.close_lock is held while waiting for the worker, so that this
 * takes everything below it.  &vsvm_device.vms_lock is held for a look at the list
 * only, neither until a job ends nor while mappings are undone.  Both take as long
 * as the process likes: the latter waits for a moment in which none of the
 * process's memory is being invalidated.  Or else one process would keep all users
 * of the device from making and closing VMs.
 *
 * The SVM lock serializes what changes the set of ranges of a VM.  The GPU
 * accesses memory under the notifier lock alone, one page at a time: an mmu
 * notifier that takes it for writing has waited for the GPU, as a driver of
 * hardware waits for the invalidation of a TLB.
 *
 * Eviction, and waiting for it, is done with the mmap lock at most: neither
 * with pages locked, since two that wait for each other's pages would never
 * end, nor with vsvm_pool.lock, which the release of an allocation takes.
 * Copies between the memories take no lock at all.
 *
 * &vsvm_queue.lock is a leaf.
 */

#define VSVM_MAX_DEVICES	16
#define VSVM_MAX_VRAM_MB	4096
#define VSVM_MAX_DEMAND_MB	65536
#define VSVM_MAX_VMS		64
#define VSVM_MAX_USER_VMS	1024
#define VSVM_MAX_TIMESLICE_MS	10000
#define VSVM_MAX_ADVICE		1024
#define VSVM_MAX_RANGES		4096
#define VSVM_MAX_CHUNK		SZ_2M
#define VSVM_MAX_OPS		1024
#define VSVM_MAX_SYNCS		64
#define VSVM_MAX_JOBS		256
#define VSVM_MAX_QUEUED_OPS	65536

/* Number of failed jobs that a VM remembers.  Part of the uAPI. */
#define VSVM_MAX_FAILURES	64

/**
 * struct vsvm_part - a part of the device memory
 * @memory: What is behind the device pages, in the same order.  Of coherent
 *          memory, it is the pages themselves.  A free page keeps its contents,
 *          as in real hardware.  With on_demand=1 NULL until the part is used for
 *          the first time, then it stays.
 * @mm: Free and allocated blocks, in pages.  Protected by &vsvm_pool.lock.
 * @free: Number of free pages.  Protected by &vsvm_pool.lock.
 */
struct vsvm_part {
	void *memory;
	struct drm_mm mm;
	unsigned long free;
};

/**
 * struct vsvm_pool - the device memory and its allocations
 * @size: Size in pages.
 * @parts: Its parts, of a power of two of bytes each.  Just one unless their
 *         struct pages are made on demand.
 * @nparts: Number of parts.
 * @part_shift: Binary logarithm of the size of a part in bytes.
 * @part_lock: Serializes making the memory of parts.
 * @lock: Serializes allocation and release.
 * @free: Number of free pages.  Protected by @lock.
 * @lru: Each struct vsvm_bo that can be evicted, the oldest first.  Protected
 *       by @lock.
 * @retired: Each struct vsvm_block of a broken page.  Protected by @lock.
 * @nr_retired: Number of them.  Protected by @lock.
 * @accessed: A bit for each page that a device accessed since @lru was looked
 *            at last.
 */
struct vsvm_pool {
	unsigned long size;
	struct vsvm_part *parts;
	unsigned long nparts;
	unsigned int part_shift;
	/* Held while memory is made. */
	struct mutex part_lock;
	/* Taken by the release of an allocation. */
	struct mutex lock;
	unsigned long free;
	struct list_head lru;
	struct list_head retired;
	unsigned long nr_retired;
	unsigned long *accessed;
};

/**
 * struct vsvm_device - one virtual GPU
 * @drm: The DRM device.
 * @dpagemap: Its memory, for DRM pagemap.
 * @region: The device pages of it.
 * @pool: Its memory, for itself.
 * @index: Index among all devices.
 * @coherent: Physical address of the memory if the CPU can access it, or 0.
 * @vms_lock: Protects @vms.
 * @vms: Its VMs.  Protected by @vms_lock.
 * @gpu_faults: Number of its page faults.
 * @evictions: Number of allocations evicted.
 * @jobs: Number of jobs that have ended.
 */
struct vsvm_device {
	struct drm_device drm;
	struct drm_pagemap dpagemap;
	struct drm_pagemap_region *region;
	struct vsvm_pool pool;
	unsigned int index;
	u64 coherent;
	/* Held for a look at the list, never for what takes time. */
	spinlock_t vms_lock;
	struct list_head vms;
	atomic64_t gpu_faults;
	atomic64_t evictions;
	atomic64_t jobs;
};

/**
 * struct vsvm_client - an open file, for those who may outlive it
 * @ref: One for the file, one for each struct vsvm_vm and struct vsvm_bo.
 * @vram: Pages of device memory in its allocations.  Protected by the lock of
 *        the device's pool.
 * @bos: Its allocations.  Protected by the lock of the device's pool.
 * @vms: The VMs by handle.  Has its own lock.  Empty after the file was closed.
 * @num_vms: Number of its VMs, with a handle or not.
 * @queued_ops: Operations in jobs that have not ended.
 * @evictions: Number of its allocations evicted.
 * @gpu_faults: Number of page faults of its VMs.
 * @jobs: Number of jobs of its VMs that have ended.
 */
struct vsvm_client {
	struct kref ref;
	unsigned long vram;
	struct list_head bos;
	struct xarray vms;
	atomic_t num_vms;
	atomic_t queued_ops;
	atomic64_t evictions;
	atomic64_t gpu_faults;
	atomic64_t jobs;
};

/**
 * struct vsvm_bo - an allocation of device memory
 * @devmem: The allocation as DRM pagemap knows it.
 * @ref: One for DRM pagemap while pages are in use, one for each user.
 * @client: The client that made it, or NULL for another driver.
 * @npages: Size in pages.
 * @blocks: The struct vsvm_block it consists of.  Emptied when no page is in
 *          use any more, constant before.  Protected by &vsvm_pool.lock.
 * @lru_link: In &vsvm_pool.lru.  Protected by &vsvm_pool.lock.
 * @client_link: In &vsvm_client.bos.  Protected by &vsvm_pool.lock.
 */
struct vsvm_bo {
	struct drm_pagemap_devmem devmem;
	struct kref ref;
	struct vsvm_client *client;
	unsigned long npages;
	struct list_head blocks;
	struct list_head lru_link;
	struct list_head client_link;
};

/**
 * struct vsvm_populate - a migration to the device
 * @mig: Arguments and result of the layer.
 * @client: The client that the memory is counted for, or NULL.
 * @fault_window: For the new allocation, in bytes.
 * @accessed: Whether a device waits for the pages, to access them at once.
 * @bo: The allocation to use, with a reference, or NULL.
 * @wanted: Size of the allocation that there was no room for, in pages.
 * @lent: Whether the layer was given a reference to @bo.
 */
struct vsvm_populate {
	struct drm_pagemap_migration mig;
	struct vsvm_client *client;
	unsigned long fault_window;
	bool accessed;
	struct vsvm_bo *bo;
	unsigned long wanted;
	bool lent;
};

/**
 * struct vsvm_failure - how and where a job failed
 * @job: Number of the job.
 * @error: Negative errno, 0 if it did not fail.
 * @op: Index of the operation.
 * @address: Address it failed at, 0 for none.
 */
struct vsvm_failure {
	u64 job;
	int error;
	u32 op;
	u64 address;
};

/**
 * struct vsvm_queue - the jobs of a VM
 * @lock: Protects the members marked so.
 * @jobs: Each struct vsvm_job that has not ended, in order.  Protected by @lock.
 * @num_jobs: Length of @jobs.  Protected by @lock.
 * @last: Number of the last job that was queued.  Protected by @lock.
 * @ended: Number of the last job that has ended.  Protected by @lock.
 * @closed: 0, or the negative errno that all jobs end with.  Written under
 *          @lock.
 * @failures: The last jobs that failed.  Protected by @lock.
 * @num_failures: Number of all jobs that failed.  Protected by @lock.
 * @work: The worker: executes the jobs, and collects garbage.  Never runs twice
 *        at a time.
 * @close_lock: Serializes ending the jobs once @work does not any more.
 * @buffer: A page, in the place of registers.  Used by @work only.
 */
struct vsvm_queue {
	/* A leaf: jobs come and go. */
	spinlock_t lock;
	struct list_head jobs;
	unsigned int num_jobs;
	u64 last;
	u64 ended;
	int closed;
	struct vsvm_failure failures[VSVM_MAX_FAILURES];
	u64 num_failures;
	struct work_struct work;
	/* Held while waiting for @work. */
	struct mutex close_lock;
	void *buffer;
};

/**
 * struct vsvm_vm - a device's view of a process's address space
 * @ref: One for the handle, one for each ioctl in progress and the like.
 * @vdev: The device.
 * @client: The file it belongs to.  Counted.
 * @user: The user that made it, whose workers execute its jobs.  Counted.
 * @cred: Credentials of the process that made it, for page faults.  Counted.
 * @mm: The address space.  Holds mm_count, not mm_users.
 * @context: Context of its fences, which is its name in traces and debugfs, too.
 * @pid: The process that made it, for debugfs.
 * @link: In &vsvm_device.vms.  Protected by &vsvm_device.vms_lock.
 * @detached: @gpusvm is gone, since the device is.  Written by the removal of the
 *            device, with a reference.
 * @svm_lock: The driver's lock of GPU SVM.
 * @gpusvm: The ranges of @mm that are mirrored.
 * @chunk_sizes: Sizes of ranges.  Constant.
 * @ranges: Each struct vsvm_range, the oldest first.  Protected by @svm_lock.
 * @num_ranges: Length of @ranges.  Protected by @svm_lock.
 * @garbage_lock: Protects @garbage.  Taken by mmu notifiers.
 * @garbage: Ranges that are to be removed.  Protected by @garbage_lock.
 * @leaves: The GPU page table.  Protected by the notifier lock, see vsvm_pt.c.
 * @num_advice: Number of entries of @advice.  Protected by @svm_lock.
 * @advice: Advice of user space, by page.  Protected by @svm_lock.
 * @queue: The jobs.
 * @close_work: Closes the VM when its file is closed.  Has the reference of the
 *              handle.
 */
struct vsvm_vm {
	struct kref ref;
	struct vsvm_device *vdev;
	struct vsvm_client *client;
	struct vsvm_user *user;
	const struct cred *cred;
	struct mm_struct *mm;
	u64 context;
	pid_t pid;
	struct list_head link;
	bool detached;
	/* Held for the whole of a page fault. */
	struct mutex svm_lock;
	struct drm_gpusvm gpusvm;
	unsigned long chunk_sizes[3];
	struct list_head ranges;
	unsigned int num_ranges;
	/* Taken by mmu notifiers. */
	spinlock_t garbage_lock;
	struct list_head garbage;
	struct xarray leaves;
	unsigned int num_advice;
	struct maple_tree advice;
	struct vsvm_queue queue;
	struct work_struct close_work;
};

/**
 * struct vsvm_snapshot - where the pages of a range are
 * @vm: The VM.
 * @notifier: Tells that memory in the range changes.
 * @lock: Protects the sequence number of @notifier.  A valid snapshot stays
 *        valid while it is held.
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

/**
 * struct vsvm_range - memory that is mapped for the GPU at once
 * @base: The range as GPU SVM knows it.
 * @link: In &vsvm_vm.ranges.  Protected by &vsvm_vm.svm_lock.
 * @garbage_link: In &vsvm_vm.garbage.  Protected by &vsvm_vm.garbage_lock.
 */
struct vsvm_range {
	struct drm_gpusvm_range base;
	struct list_head link;
	struct list_head garbage_link;
};

/**
 * struct vsvm_advice - what user space advised for a range
 * @advice: One of enum drm_vsvm_advice.
 * @timeslice_ms: Timeslice in milliseconds.
 * @fault_window: Fault window in bytes.
 * @start: First address it is valid for.
 * @end: End address, exclusive.
 */
struct vsvm_advice {
	unsigned int advice;
	unsigned int timeslice_ms;
	unsigned long fault_window;
	unsigned long start;
	unsigned long end;
};

/**
 * struct vsvm_fault - a page fault of the GPU
 * @vm: The VM.
 * @addr: Address of the page.
 * @write: Whether the access was a write.
 * @tries: Number of attempts to resolve it.
 * @failures: Number of times that memory which should be there was not.
 * @on_device: Number of pages of the range that migration left on the device.
 * @left: Number of pages of the range that migration left elsewhere.
 * @gather: Whether pages of the range are taken from peers, although that is not
 *          advised.
 * @again: Whether migration was tried again since some came back at once.
 * @narrow: Whether to care for the page alone, not for its neighbours.
 * @deadline: When to give up, in jiffies.  Valid if @tries.
 * @advice: Advice of user space.
 *
 * @vm, @addr and @write are the caller's; the rest starts out as zero.
 */
struct vsvm_fault {
	struct vsvm_vm *vm;
	unsigned long addr;
	bool write;
	unsigned int tries;
	unsigned int failures;
	unsigned long on_device;
	unsigned long left;
	bool gather;
	bool again;
	bool narrow;
	unsigned long deadline;
	struct vsvm_advice advice;
};

/**
 * struct vsvm_progress - how far an operation was executed
 * @done: Bytes of its vectors, or nodes of its list.
 * @node: Address of the next node.
 * @scalar: Word that was read at the start.
 * @result: Intermediate result.
 */
struct vsvm_progress {
	u64 done;
	u64 node;
	u64 scalar;
	u64 result;
};

/**
 * struct vsvm_engine - what executes the operations of a job
 * @vm: The VM.
 * @buffer: A page for intermediate results of a step.
 * @progress: State of the operation between two steps.
 * @address: After an error: the address it happened at, or zero.
 */
struct vsvm_engine {
	struct vsvm_vm *vm;
	void *buffer;
	struct vsvm_progress progress;
	u64 address;
};

/**
 * struct vsvm_job - operations to execute
 * @link: In &vsvm_queue.jobs.  Protected by &vsvm_queue.lock.
 * @vm: The VM.
 * @fence: Signalled at the end.
 * @status: Number of the job, and how it went, or which operation is next.
 * @engine: State of the execution.
 * @begun: Whether execution has begun.
 * @ran: For how long it was executed.
 * @ops: The operations.
 * @num_ops: Their number, which counts in &vsvm_client.queued_ops.
 * @waits: Fences to wait for.
 * @num_waits: Their number.  Counted down by the worker.
 * @callback: Brings the worker back; in use with the last fence if @waiting.
 * @waiting: See there.  Used by the worker only.
 */
struct vsvm_job {
	struct list_head link;
	struct vsvm_vm *vm;
	struct vsvm_fence *fence;
	struct vsvm_failure status;
	struct vsvm_engine engine;
	bool begun;
	ktime_t ran;
	struct drm_vsvm_op *ops;
	unsigned int num_ops;
	struct dma_fence **waits;
	unsigned int num_waits;
	struct dma_fence_cb callback;
	bool waiting;
};

static inline struct vsvm_device *to_vsvm(struct drm_device *drm)
{
	return container_of(drm, struct vsvm_device, drm);
}

static inline struct vsvm_device *
vsvm_from_dpagemap(struct drm_pagemap *dpagemap)
{
	return container_of(dpagemap, struct vsvm_device, dpagemap);
}

static inline struct vsvm_device *vsvm_from_page(const struct page *page)
{
	return vsvm_from_dpagemap(drm_pagemap_page_to_region(page)->dpagemap);
}

static inline struct vsvm_range *to_vsvm_range(struct drm_gpusvm_range *range)
{
	return container_of(range, struct vsvm_range, base);
}

/*
 * From the bottom up: each file calls only those before it.
 */

/* vsvm_client.c */
void *vsvm_owner(void);
bool vsvm_peers_reachable(void);
u64 vsvm_coherent(unsigned int index);
bool vsvm_any_coherent(void);
struct vsvm_client *vsvm_client_create(void);
void vsvm_client_put(struct vsvm_client *client);
struct vsvm_user *vsvm_user_get(void);
void vsvm_user_put(struct vsvm_user *user);
int vsvm_clients_init(void);
void vsvm_clients_exit(void);
void vsvm_client_kick(struct vsvm_vm *vm);
void vsvm_client_close(struct vsvm_vm *vm);

/* vsvm_mem.c */
int vsvm_mem_init(struct vsvm_device *vdev, u64 size, bool on_demand);
unsigned long vsvm_mem_chunk(struct vsvm_device *vdev);
u64 vsvm_mem_used(struct vsvm_device *vdev, struct vsvm_client *client);
long vsvm_mem_hold(struct vsvm_device *vdev, unsigned long npages);
void vsvm_mem_unhold(struct vsvm_device *vdev, long part);
int vsvm_mem_populate(struct vsvm_device *vdev, struct vsvm_populate *pop);
bool vsvm_mem_is_peer(struct vsvm_device *vdev,
		      const struct drm_pagemap_device_addr *device_addr);
bool vsvm_mem_bounces(struct vsvm_device *vdev);
void *vsvm_mem_access(struct vsvm_device *vdev,
		      const struct drm_pagemap_device_addr *device_addr,
		      unsigned long offset, size_t size);
void vsvm_mem_stats(struct vsvm_device *vdev, struct vsvm_client *client,
		    struct drm_memory_stats *stats);
int vsvm_mem_fail(struct vsvm_device *vdev, unsigned long pfn);
void vsvm_mem_print(struct vsvm_device *vdev, struct drm_printer *p);

/* vsvm_residency.c */
int vsvm_snapshot_init(struct vsvm_snapshot *snap, struct vsvm_vm *vm,
		       u64 start, u64 end);
int vsvm_snapshot_take(struct vsvm_snapshot *snap, unsigned long start,
		       unsigned long end);
void vsvm_snapshot_fini(struct vsvm_snapshot *snap);
int vsvm_residency(struct vsvm_vm *vm, const struct drm_vsvm_residency *args,
		   u64 end);

/* vsvm_prefetch.c */
int vsvm_prefetch(struct vsvm_vm *vm, struct drm_vsvm_prefetch *args, u64 end);

/* vsvm_pt.c */
int vsvm_pt_prepare(struct vsvm_vm *vm, unsigned long start, unsigned long end);
int vsvm_pt_map(struct vsvm_vm *vm, struct drm_gpusvm_range *range);
void vsvm_pt_zap(struct vsvm_vm *vm, unsigned long start, unsigned long end);
void vsvm_pt_prune(struct vsvm_vm *vm, unsigned long start, unsigned long end);
bool vsvm_pt_walk(struct vsvm_vm *vm, unsigned long addr, bool write,
		  struct drm_pagemap_device_addr *device_addr);
unsigned int vsvm_pt_count_large(struct vsvm_vm *vm);
void vsvm_pt_fini(struct vsvm_vm *vm);

/* vsvm_range.c */
int vsvm_range_init(struct vsvm_vm *vm);
void vsvm_range_fini(struct vsvm_vm *vm);
void vsvm_range_remove(struct vsvm_vm *vm, struct vsvm_range *range);
void vsvm_range_collect_locked(struct vsvm_vm *vm);
void vsvm_range_collect(struct vsvm_vm *vm);
void vsvm_range_print(struct vsvm_vm *vm, struct drm_printer *p);
int vsvm_range_advise(struct vsvm_vm *vm, const struct drm_vsvm_advise *args,
		      u64 end);
void vsvm_advice_lookup(struct vsvm_vm *vm, unsigned long addr,
			struct vsvm_advice *advice);
void vsvm_advice_fini(struct vsvm_vm *vm);

/* vsvm_fault.c */
int vsvm_fault_handle(struct vsvm_fault *fault);

/* vsvm_engine.c */
int vsvm_engine_check(const struct drm_vsvm_op *op, u64 task_size);
int vsvm_engine_step(struct vsvm_engine *engine, const struct drm_vsvm_op *op);

/* vsvm_job.c */
struct vsvm_job *vsvm_job_create(struct vsvm_vm *vm);
void vsvm_job_arm(struct vsvm_job *job, u64 number);
struct dma_fence *vsvm_job_fence(struct vsvm_job *job);
void vsvm_job_signal(struct vsvm_job *job);
void vsvm_job_free(struct vsvm_job *job);
void vsvm_job_abort(struct vsvm_job *job);

/* vsvm_sched.c */
unsigned int vsvm_job_limit(void);
int vsvm_queue_init(struct vsvm_vm *vm);
int vsvm_queue_add(struct vsvm_queue *queue, struct vsvm_job *job);
int vsvm_queue_status(struct vsvm_queue *queue, u64 job,
		      struct vsvm_failure *status);
void vsvm_queue_cancel(struct vsvm_vm *vm, int err);
void vsvm_queue_close(struct vsvm_vm *vm, int err);
void vsvm_queue_fini(struct vsvm_vm *vm);
void vsvm_queue_print(struct vsvm_vm *vm, struct drm_printer *p);

/* vsvm_exec.c */
int vsvm_exec(struct vsvm_vm *vm, struct drm_file *file,
	      struct drm_vsvm_exec *args);

/* vsvm_vm.c */
struct vsvm_vm *vsvm_vm_create(struct vsvm_device *vdev,
			       struct vsvm_client *client);
struct vsvm_vm *vsvm_vm_get(struct drm_file *file, u32 id);
void vsvm_vm_put(struct vsvm_vm *vm);
void vsvm_vm_destroy(struct vsvm_vm *vm);
void vsvm_vm_destroy_all(struct vsvm_client *client);
void vsvm_vm_detach_all(struct vsvm_device *vdev);
void vsvm_vm_print_all(struct vsvm_device *vdev, struct drm_printer *p);

/* vsvm_ioctl.c */
int vsvm_query_ioctl(struct drm_device *drm, void *data,
		     struct drm_file *file);
int vsvm_stats_ioctl(struct drm_device *drm, void *data,
		     struct drm_file *file);
int vsvm_vm_create_ioctl(struct drm_device *drm, void *data,
			 struct drm_file *file);
int vsvm_vm_destroy_ioctl(struct drm_device *drm, void *data,
			  struct drm_file *file);
int vsvm_prefetch_ioctl(struct drm_device *drm, void *data,
			struct drm_file *file);
int vsvm_residency_ioctl(struct drm_device *drm, void *data,
			 struct drm_file *file);
int vsvm_advise_ioctl(struct drm_device *drm, void *data,
		      struct drm_file *file);
int vsvm_exec_ioctl(struct drm_device *drm, void *data,
		    struct drm_file *file);
int vsvm_job_status_ioctl(struct drm_device *drm, void *data,
			  struct drm_file *file);

#endif
