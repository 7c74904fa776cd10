/* SPDX-License-Identifier: MIT */
#ifndef _VSVM_DRM_H_
#define _VSVM_DRM_H_

#include "drm.h"

#if defined(__cplusplus)
extern "C" {
#endif

/**
 * DOC: vsvm uAPI
 *
 * vsvm is a GPU made of software.  It works on the memory of a process under the
 * process's own addresses: pages that it accesses are moved to the device's
 * memory, or mapped where they are.  CPU accesses fault them back, unless that
 * memory is coherent.
 *
 * Rules for every structure here:
 *
 * - Fields have fixed sizes and natural alignment; padding is explicit.
 * - Padding and flags without a meaning must be zero, otherwise the ioctl fails
 *   with -EINVAL.
 * - Structures passed to an ioctl grow at the end only, and zero in a new field
 *   means what was done before it existed.  Arrays have entries of fixed size.
 * - New ioctls are added at the end.  None is removed or renumbered.
 * - Fields marked [out] are ignored on input.
 *
 * Errors common to all: -EINVAL for an argument outside its documented values,
 * -ENODEV once the device is gone, -EFAULT for a bad pointer, -ENOMEM.  A fatal
 * signal ends prefetch and residency with -EINTR.  Any signal may end advise with
 * -EINTR; it can be called again.
 *
 * Errors of operations that the device executes are not those of an ioctl: see
 * &struct drm_vsvm_job_status.
 */

/**
 * DOC: vsvm limits
 *
 * Kernel memory allocated on behalf of a process is charged to its memory cgroup,
 * except for workers, syncobjs and the nodes of their timelines.  In addition
 * there are limits, reported by &struct drm_vsvm_query:
 *
 * - VMs of an open file: &drm_vsvm_query.max_vms.  Beyond, making one fails with
 *   -ENOSPC, and so it does beyond 1024 of a user, in all files of all devices.
 * - Unfinished jobs of a VM: &drm_vsvm_query.max_jobs.  Beyond, exec fails with
 *   -EBUSY.
 * - Operations in unfinished jobs of an open file, of all its VMs:
 *   &drm_vsvm_query.max_queued_ops.  Beyond, exec fails with -EBUSY.
 * - Operations and syncobjs of a job: &drm_vsvm_query.max_ops and
 *   &drm_vsvm_query.max_syncs.  Beyond, exec fails with -E2BIG.
 * - Ranges with different advice in a VM: &drm_vsvm_query.max_advice.  Beyond,
 *   advise fails with -ENOSPC.
 * - Ranges of memory that are mapped by the device in a VM:
 *   &drm_vsvm_query.max_ranges.  Beyond, the device forgets the mapping of the
 *   oldest, and faults when it accesses it again.
 * - Execution time of a job, see &struct drm_vsvm_exec:
 *   &drm_vsvm_query.max_job_ms.  Beyond, it fails with ETIME.
 * - Timeslice: &drm_vsvm_query.max_timeslice_ms.  Beyond, prefetch and advise
 *   fail with -EINVAL.
 *
 * Each user, by the user ID of the process that makes a VM, has workers of their
 * own, as many as there are CPUs, at least four; they cannot be used up by another
 * user.  In a user namespace, the user is who made it, whatever the user ID; one
 * that root made, for a container, is a user of its own.  Workers compete for the
 * CPUs as other threads do.  The VMs of one user take turns.
 */

/**
 * DOC: vsvm and other system calls
 *
 * Pages in device memory are still pages of the process, and system calls work on
 * them.  A call that has to access a page, or needs it in system memory, brings it
 * back first, as an access of the CPU does: reads and writes by the kernel, pinning
 * for I/O, ptrace, and process_vm_readv().
 *
 * fork(), mremap() and mprotect() leave it where it is.  munmap() and madvise()
 * with MADV_DONTNEED free it there.  UFFDIO_MOVE and MADV_COLLAPSE bring pages
 * back first.  move_pages() and mbind() leave them where they are; move_pages()
 * reports -ENOENT for them.  To have them moved, prefetch them to system memory
 * first.
 *
 * In /proc/pid/pagemap a page in device memory appears as swapped out.  In
 * /proc/pid/smaps it counts as resident (Rss), not as Swap.
 *
 * Devices with %DRM_VSVM_VRAM_COHERENT are different: system calls access their
 * pages where they are, and only what pins a page for a long time brings it back.
 * In /proc/pid/pagemap such a page is present.
 */

#define DRM_VSVM_QUERY		0x00
#define DRM_VSVM_STATS		0x01
#define DRM_VSVM_VM_CREATE	0x02
#define DRM_VSVM_VM_DESTROY	0x03
#define DRM_VSVM_PREFETCH	0x04
#define DRM_VSVM_RESIDENCY	0x05
#define DRM_VSVM_ADVISE		0x06
#define DRM_VSVM_EXEC		0x07
#define DRM_VSVM_JOB_STATUS	0x08

/**
 * DRM_VSVM_VRAM_COHERENT - The CPU accesses the device memory in place.
 *
 * Accesses of the CPU do not bring pages back to system memory.  Only prefetch,
 * eviction and pins for a long time do.
 */
#define DRM_VSVM_VRAM_COHERENT		(1 << 0)

/**
 * struct drm_vsvm_query - constants and limits of the device
 *
 * Nothing here changes while the device exists, except that the administrator
 * may set @max_job_ms.
 *
 * Errors: none but the common ones.
 */
struct drm_vsvm_query {
	/** @flags: Must be zero. */
	__u32 flags;

	/** @device: [out] Index of the device among all vsvm devices. */
	__u32 device;

	/** @vram_size: [out] Size of the device memory in bytes. */
	__u64 vram_size;

	/** @page_size: [out] Unit of all addresses and sizes, in bytes. */
	__u32 page_size;

	/** @chunk_size: [out] Largest single allocation of a prefetch, in bytes. */
	__u32 chunk_size;

	/** @max_vms: [out] Limit of VMs of one open file. */
	__u32 max_vms;

	/** @max_timeslice_ms: [out] Limit of &drm_vsvm_prefetch.timeslice_ms. */
	__u32 max_timeslice_ms;

	/** @max_ops: [out] Limit of &drm_vsvm_exec.num_ops. */
	__u32 max_ops;

	/** @max_syncs: [out] Limit of &drm_vsvm_exec.num_syncs. */
	__u32 max_syncs;

	/** @max_jobs: [out] Limit of unfinished jobs of one VM. */
	__u32 max_jobs;

	/**
	 * @max_queued_ops: [out] Limit of operations in unfinished jobs of one
	 * open file.
	 */
	__u32 max_queued_ops;

	/** @max_job_ms: [out] Time limit of a job in milliseconds. */
	__u32 max_job_ms;

	/** @max_advice: [out] Limit of ranges with different advice in one VM. */
	__u32 max_advice;

	/** @max_ranges: [out] Limit of ranges that are mapped in one VM. */
	__u32 max_ranges;

	/** @vram_flags: [out] %DRM_VSVM_VRAM_COHERENT or 0. */
	__u32 vram_flags;
};

/**
 * struct drm_vsvm_stats - counters of an open file
 *
 * Use of the device by other files does not show here.
 *
 * Errors: none but the common ones.
 */
struct drm_vsvm_stats {
	/** @flags: Must be zero. */
	__u32 flags;

	/** @pad: Must be zero. */
	__u32 pad;

	/** @vram_used: [out] Bytes of device memory allocated for this file now. */
	__u64 vram_used;

	/** @gpu_faults: [out] Page faults of the device in VMs of this file. */
	__u64 gpu_faults;

	/**
	 * @evictions: [out] Allocations for this file that were evicted, for
	 * whichever file the room was made.
	 */
	__u64 evictions;

	/** @jobs: [out] Finished jobs of this file, including failed ones. */
	__u64 jobs;
};

/**
 * struct drm_vsvm_vm_create - make a VM
 *
 * A VM is the device's view of the address space of the process that creates
 * it.  It belongs to the open file, but can only be used by that process: a
 * child that inherits the file gets -EPERM, and makes a VM of its own.
 *
 * A VM owns no memory.  Memory on the device stays there when the VM or the
 * file is closed, and comes back when the CPU touches it.
 *
 * Errors: -ENOSPC if the file has &drm_vsvm_query.max_vms VMs.
 */
struct drm_vsvm_vm_create {
	/** @flags: Must be zero. */
	__u32 flags;

	/** @vm_id: [out] Handle of the VM, never zero. */
	__u32 vm_id;
};

/**
 * struct drm_vsvm_vm_destroy - drop a VM
 *
 * Allowed from any process that has the file.
 *
 * Errors: -ENOENT if there is no such VM.
 */
struct drm_vsvm_vm_destroy {
	/** @vm_id: Handle of the VM. */
	__u32 vm_id;

	/** @pad: Must be zero. */
	__u32 pad;
};

/**
 * enum drm_vsvm_place - location of a page
 */
enum drm_vsvm_place {
	/**
	 * @DRM_VSVM_PLACE_NONE: Nowhere: never touched, swapped out, or in
	 * another driver's device memory.
	 */
	DRM_VSVM_PLACE_NONE = 0,

	/** @DRM_VSVM_PLACE_SYSTEM: In system memory. */
	DRM_VSVM_PLACE_SYSTEM = 1,

	/** @DRM_VSVM_PLACE_DEVICE: In the memory of this device. */
	DRM_VSVM_PLACE_DEVICE = 2,

	/** @DRM_VSVM_PLACE_PEER: In the memory of another vsvm device. */
	DRM_VSVM_PLACE_PEER = 3,

	/**
	 * @DRM_VSVM_PLACE_UNMAPPED: No memory that a device may access: no
	 * mapping, an unreadable one, or one of I/O memory or secret memory.
	 */
	DRM_VSVM_PLACE_UNMAPPED = 4,
};

/**
 * DRM_VSVM_PREFETCH_PARTIAL - Leave pages that cannot be moved, and go on.
 */
#define DRM_VSVM_PREFETCH_PARTIAL	(1u << 0)

/**
 * struct drm_vsvm_prefetch - move a range of memory
 *
 * To the device: moves anonymous memory, page by page where a page is not there
 * yet.  The range is handled in steps that end at the borders of mappings and
 * at multiples of &drm_vsvm_query.chunk_size; each step makes one allocation.
 * When device memory is full, allocations are moved to system memory, whoever
 * owns them: the oldest first, but those that a device accessed lately after
 * the others.  Pages that were never touched become pages of zeroes on the
 * device.  Pages in the memory of a peer come straight from there; if the peer
 * cannot be reached, they come by way of system memory, after the timeslice they
 * have on the peer.
 *
 * To system memory: brings back what is in the memory of this device or of a
 * peer, and leaves everything else as it is.  Waits for a timeslice, like the
 * CPU does.
 *
 * Without %DRM_VSVM_PREFETCH_PARTIAL the ioctl stops with an error at the first
 * step that cannot be completed.  With it, errors still end the call, except those
 * that are documented below as counted or skipped.  Earlier steps stay done, and the
 * three counts are valid on every error but -ENODEV and -EFAULT of the structure
 * itself.
 *
 * Errors:
 *
 * -EINVAL: unaligned, empty or overflowing range, or one beyond the address
 * space; unknown @place or @flags; @timeslice_ms or @fault_window outside the
 * limits, or not zero for a prefetch to system memory.
 *
 * -ENOENT: no such VM.  -EPERM: the VM belongs to another process.
 *
 * -EFAULT: nothing is mapped at an address in the range.  -EOPNOTSUPP: a
 * mapping is not of anonymous memory.  With %DRM_VSVM_PREFETCH_PARTIAL, the former
 * is skipped and the pages of the latter count as left.  -EFAULT also if the
 * device cannot reach a page to copy it, for lack of bounce buffers.
 *
 * -EBUSY: pages cannot be moved now, for instance since they are pinned, or on
 * the move already.  With %DRM_VSVM_PREFETCH_PARTIAL they count as left.
 * For a prefetch to system memory, with or without that flag, also if mappings in
 * the range keep changing.
 *
 * -ENOSPC: no device memory, even after eviction; also with
 * %DRM_VSVM_PREFETCH_PARTIAL, which is about pages, not about room.  If others take
 * the memory that a step has evicted, this is reported although the step would fit;
 * it can be tried again.
 *
 * -EHWPOISON: device memory broke while it was allocated.  Another try takes other
 * memory.
 */
struct drm_vsvm_prefetch {
	/** @vm_id: Handle of the VM. */
	__u32 vm_id;

	/** @flags: %DRM_VSVM_PREFETCH_PARTIAL or zero. */
	__u32 flags;

	/** @start: First address, a multiple of the page size. */
	__u64 start;

	/** @size: Size in bytes, a multiple of the page size, not zero. */
	__u64 size;

	/** @place: %DRM_VSVM_PLACE_SYSTEM or %DRM_VSVM_PLACE_DEVICE. */
	__u32 place;

	/**
	 * @timeslice_ms: Time in milliseconds for which the device keeps the
	 * pages that are moved now, at most &drm_vsvm_query.max_timeslice_ms:
	 * CPU accesses wait for its end.  Only those of the calling process do,
	 * and only for pages that no other process shares; a wait ends early
	 * when the page comes back for another reason, or with a fatal signal.
	 */
	__u32 timeslice_ms;

	/**
	 * @fault_window: Number of bytes, of the pages that are moved now, that
	 * a CPU access brings back at once: a multiple of the page size, at most
	 * &drm_vsvm_query.chunk_size; zero for the whole allocation.
	 */
	__u64 fault_window;

	/** @moved: [out] Pages that were moved. */
	__u64 moved;

	/** @resident: [out] Pages that were in the requested place already. */
	__u64 resident;

	/** @left: [out] Pages that are elsewhere. */
	__u64 left;
};

/**
 * DRM_VSVM_PAGE_WRITE - The page can be written without a fault.
 */
#define DRM_VSVM_PAGE_WRITE		(1u << 0)

/**
 * struct drm_vsvm_page - one page of a residency snapshot
 */
struct drm_vsvm_page {
	/** @place: One of enum drm_vsvm_place. */
	__u8 place;

	/** @flags: %DRM_VSVM_PAGE_WRITE or zero.  Other bits may appear. */
	__u8 flags;

	/** @device: Index of the device that has the page, or zero. */
	__u16 device;
};

/**
 * struct drm_vsvm_residency - report the place of each page of a range
 *
 * Moves nothing and faults nothing in.  Each step of
 * &drm_vsvm_query.chunk_size is consistent in itself.  Waits for pages that are
 * being moved, and reports their new place.
 *
 * Errors:
 *
 * -EINVAL: unaligned, empty or overflowing range, or one beyond the address
 * space; unknown @flags.
 *
 * -ENOENT: no such VM.  -EPERM: the VM belongs to another process.
 *
 * -EFAULT: @pages cannot be written.
 *
 * -EBUSY: the memory keeps changing.
 */
struct drm_vsvm_residency {
	/** @vm_id: Handle of the VM. */
	__u32 vm_id;

	/** @flags: Must be zero. */
	__u32 flags;

	/** @start: First address, a multiple of the page size. */
	__u64 start;

	/** @size: Size in bytes, a multiple of the page size, not zero. */
	__u64 size;

	/** @pages: Address of one struct drm_vsvm_page for each page. */
	__u64 pages;
};

/**
 * enum drm_vsvm_advice - where the device wants memory that it faults on
 */
enum drm_vsvm_advice {
	/**
	 * @DRM_VSVM_ADVICE_DEFAULT: System memory is moved to the device if
	 * possible; memory of a peer is accessed in place if the peer can be
	 * reached and nothing close by is in the memory of a third device,
	 * otherwise moved.
	 */
	DRM_VSVM_ADVICE_DEFAULT = 0,

	/**
	 * @DRM_VSVM_ADVICE_SYSTEM: Nothing is moved to the device; memory is
	 * accessed where it is if it can be reached, as above, otherwise moved
	 * to system memory.
	 */
	DRM_VSVM_ADVICE_SYSTEM = 1,

	/**
	 * @DRM_VSVM_ADVICE_DEVICE: Moved to the device if possible, also from
	 * the memory of a peer.
	 */
	DRM_VSVM_ADVICE_DEVICE = 2,
};

/**
 * struct drm_vsvm_advise - tell the device how to treat a range
 *
 * Applies to page faults of the device in the range, and moves nothing by
 * itself.  The device forgets where the memory is, so that its next access
 * faults.  Advice is a property of addresses, not of what is mapped there: it is
 * kept when the memory is unmapped, and replaced by later advice.
 * %DRM_VSVM_ADVICE_DEFAULT with zeroes after it forgets it.
 *
 * Errors:
 *
 * -EINVAL: unaligned, empty or overflowing range, or one beyond the address
 * space; unknown @advice or @flags; @timeslice_ms or @fault_window outside the
 * limits.
 *
 * -ENOENT: no such VM.  -EPERM: the VM belongs to another process.
 *
 * -ENOSPC: the VM would have more than &drm_vsvm_query.max_advice ranges with
 * advice other than the default.
 */
struct drm_vsvm_advise {
	/** @vm_id: Handle of the VM. */
	__u32 vm_id;

	/** @flags: Must be zero. */
	__u32 flags;

	/** @start: First address, a multiple of the page size. */
	__u64 start;

	/** @size: Size in bytes, a multiple of the page size, not zero. */
	__u64 size;

	/** @advice: One of enum drm_vsvm_advice. */
	__u32 advice;

	/** @timeslice_ms: As &drm_vsvm_prefetch.timeslice_ms. */
	__u32 timeslice_ms;

	/** @fault_window: As &drm_vsvm_prefetch.fault_window. */
	__u64 fault_window;
};

/**
 * enum drm_vsvm_op_code - operations of the device
 *
 * Words are unsigned, have 64 bits and the byte order of the CPU.  Arithmetic
 * wraps around.
 */
enum drm_vsvm_op_code {
	/**
	 * @DRM_VSVM_OP_FILL: Write the word @value to @size bytes at @dst,
	 * again and again.
	 */
	DRM_VSVM_OP_FILL = 0,

	/**
	 * @DRM_VSVM_OP_COPY: Copy @size bytes from @src to @dst.  The two must
	 * not overlap.
	 */
	DRM_VSVM_OP_COPY = 1,

	/**
	 * @DRM_VSVM_OP_ADD: Add @value to the word at @dst, atomically also
	 * with respect to CPUs and peers.  Writes the old word to @result.
	 */
	DRM_VSVM_OP_ADD = 2,

	/**
	 * @DRM_VSVM_OP_CAS: Write @value to the word at @dst if it is
	 * @compare, atomically as above.  Writes the old word to @result.
	 */
	DRM_VSVM_OP_CAS = 3,

	/**
	 * @DRM_VSVM_OP_CHECKSUM: Compute the 64-bit FNV-1a hash, by words
	 * instead of bytes, of @size bytes at @src and write it to @result.
	 */
	DRM_VSVM_OP_CHECKSUM = 4,

	/**
	 * @DRM_VSVM_OP_WALK: Follow a linked list.  @src is the address of the
	 * first node, zero for an empty list.  The word at the start of a node
	 * is the address of the next one, or zero; it is read first.  Adds
	 * @value to the word @offset bytes into each node, or only reads that
	 * if @value is zero.  Ends after @count nodes at the latest.  Writes two
	 * words to @result: how many nodes were visited, and the sum of the
	 * words before @value was added.  An address that is not a multiple of
	 * 8 fails with EFAULT.
	 */
	DRM_VSVM_OP_WALK = 5,

	/**
	 * @DRM_VSVM_OP_MULADD: For vectors of @size bytes: multiply each word
	 * at @src with the word at @scalar, which is read once, and add it to
	 * the word at @dst.  @src and @dst may be the same, but must not
	 * overlap otherwise.
	 */
	DRM_VSVM_OP_MULADD = 6,
};

/**
 * struct drm_vsvm_op - one operation
 *
 * Addresses are those of the process; all of them, and all sizes, are multiples
 * of 8, except that %DRM_VSVM_OP_COPY takes any.  Fields that the operation does
 * not have must be zero.  @result is optional: zero if it is not wanted, except
 * for %DRM_VSVM_OP_CHECKSUM.
 */
struct drm_vsvm_op {
	/** @op: One of enum drm_vsvm_op_code. */
	__u32 op;

	/** @flags: Must be zero. */
	__u32 flags;

	/** @dst: Address that is written. */
	__u64 dst;

	/** @src: Address that is read. */
	__u64 src;

	/** @scalar: Address of a word to multiply with. */
	__u64 scalar;

	/** @size: Size in bytes, not zero. */
	__u64 size;

	/** @count: Limit of nodes, not zero. */
	__u64 count;

	/** @value: Word to write or to add. */
	__u64 value;

	/** @compare: Word that is expected at @dst. */
	__u64 compare;

	/** @offset: Offset in a node in bytes. */
	__u64 offset;

	/** @result: Address the result is written to. */
	__u64 result;
};

/**
 * DRM_VSVM_SYNC_SIGNAL - The job signals the syncobj when it ends.
 *
 * Without it, the job waits for the fence in the syncobj before it starts.
 */
#define DRM_VSVM_SYNC_SIGNAL		(1u << 0)

/**
 * struct drm_vsvm_sync - a syncobj to wait for or to signal
 */
struct drm_vsvm_sync {
	/** @handle: Handle of the syncobj. */
	__u32 handle;

	/** @flags: %DRM_VSVM_SYNC_SIGNAL or zero. */
	__u32 flags;

	/** @timeline_value: Point of a timeline syncobj, zero for a binary one. */
	__u64 timeline_value;
};

/**
 * struct drm_vsvm_exec - have the device execute operations
 *
 * Returns when the job is queued.  The jobs of one VM are executed in order, and
 * so are the operations of a job; those of different VMs run side by side.
 *
 * @ops and @syncs are read during the call, and not needed after it.  With an
 * error, nothing was queued and no syncobj changed, unless it is that the result
 * cannot be written to this structure.
 *
 * A job ends at the first operation that fails: the rest is not executed, what
 * was done stays done, and later jobs are not affected.  Its fences are
 * signalled, with the error set.
 *
 * A job that takes longer than &drm_vsvm_query.max_job_ms fails as well, wherever
 * it is by then.  The limit counts the time for which the VM has a worker, including
 * page faults and waits of that worker for a CPU, but not waits of the job for
 * fences, for the jobs before it, or for the VM's turn.  So the time until its
 * fence is signalled is bounded by that limit for the
 * job and each of those before it in the VM, the turns of the user's other VMs
 * meanwhile, and the fences that all these jobs wait for.  A page fault that has
 * begun by then is not cut short.
 *
 * A fence signalled here may depend on page faults, hence on memory being
 * available.  It is meant for programs to wait for, not for other drivers.
 *
 * Errors:
 *
 * -EINVAL: @num_ops is zero; an operation, or its fields, are not as described;
 * an address range overflows or goes beyond the address space; unknown flags; a
 * syncobj to wait for has no fence yet.
 *
 * -E2BIG: @num_ops or @num_syncs is above the limit.
 *
 * -ENOENT: no such VM or syncobj.  -EPERM: the VM belongs to another process.
 *
 * -EFAULT: @ops or @syncs cannot be read.  (Addresses in operations are not
 * looked at before the operation is executed.)
 *
 * -EBUSY: the VM has &drm_vsvm_query.max_jobs unfinished jobs, or those of the
 * file would have more than &drm_vsvm_query.max_queued_ops operations.
 */
struct drm_vsvm_exec {
	/** @vm_id: Handle of the VM. */
	__u32 vm_id;

	/** @flags: Must be zero. */
	__u32 flags;

	/** @ops: Address of an array of struct drm_vsvm_op. */
	__u64 ops;

	/** @syncs: Address of an array of struct drm_vsvm_sync. */
	__u64 syncs;

	/** @num_ops: Entries in @ops, at least one. */
	__u32 num_ops;

	/** @num_syncs: Entries in @syncs, may be zero. */
	__u32 num_syncs;

	/**
	 * @job: [out] Number of the job, for &drm_vsvm_job_status.  Counts up
	 * from one in each VM.
	 */
	__u64 job;
};

/**
 * struct drm_vsvm_job_status - result of a job
 *
 * Does not wait; see the syncobj ioctls for that.  The VM remembers the last 64
 * jobs that failed; earlier ones are reported as successful.
 *
 * Errors: -EINVAL if @job was never queued or a pad is not zero; -ENOENT if
 * there is no such VM; -EPERM if the VM belongs to another process; -EBUSY if
 * the job has not ended yet.
 */
struct drm_vsvm_job_status {
	/** @vm_id: Handle of the VM. */
	__u32 vm_id;

	/** @pad: Must be zero. */
	__u32 pad;

	/** @job: Number of the job. */
	__u64 job;

	/**
	 * @error: [out] Zero if the job was successful, else a positive errno:
	 * EFAULT if no memory that a device may access is mapped at @address
	 * (I/O memory and secret memory are not accessible), or the process has
	 * exited; EACCES if it must not be written, or read; ENOMEM
	 * or ENOSPC; EBUSY if the memory kept changing; ERANGE if the memory is
	 * beyond what the device can address; ETIME if the job took longer than
	 * &drm_vsvm_query.max_job_ms; ENODEV if the device went away; ECANCELED
	 * if the VM was destroyed.  The last two are mostly found in fences,
	 * since the ioctl itself fails then.
	 *
	 * Where devices need bounce buffers, they write to their own memory
	 * only: then EACCES and ENOSPC also mean that the page at @address
	 * cannot be moved there.
	 */
	__u32 error;

	/** @op: [out] Index of the operation that failed. */
	__u32 op;

	/** @address: [out] Address it failed at, or zero if there is none. */
	__u64 address;
};

#define DRM_IOCTL_VSVM_QUERY \
	DRM_IOWR(DRM_COMMAND_BASE + DRM_VSVM_QUERY, struct drm_vsvm_query)
#define DRM_IOCTL_VSVM_STATS \
	DRM_IOWR(DRM_COMMAND_BASE + DRM_VSVM_STATS, struct drm_vsvm_stats)
#define DRM_IOCTL_VSVM_VM_CREATE \
	DRM_IOWR(DRM_COMMAND_BASE + DRM_VSVM_VM_CREATE, struct drm_vsvm_vm_create)
#define DRM_IOCTL_VSVM_VM_DESTROY \
	DRM_IOWR(DRM_COMMAND_BASE + DRM_VSVM_VM_DESTROY, struct drm_vsvm_vm_destroy)
#define DRM_IOCTL_VSVM_PREFETCH \
	DRM_IOWR(DRM_COMMAND_BASE + DRM_VSVM_PREFETCH, struct drm_vsvm_prefetch)
#define DRM_IOCTL_VSVM_RESIDENCY \
	DRM_IOWR(DRM_COMMAND_BASE + DRM_VSVM_RESIDENCY, struct drm_vsvm_residency)
#define DRM_IOCTL_VSVM_ADVISE \
	DRM_IOWR(DRM_COMMAND_BASE + DRM_VSVM_ADVISE, struct drm_vsvm_advise)
#define DRM_IOCTL_VSVM_EXEC \
	DRM_IOWR(DRM_COMMAND_BASE + DRM_VSVM_EXEC, struct drm_vsvm_exec)
#define DRM_IOCTL_VSVM_JOB_STATUS \
	DRM_IOWR(DRM_COMMAND_BASE + DRM_VSVM_JOB_STATUS, struct drm_vsvm_job_status)

#if defined(__cplusplus)
}
#endif

#endif /* _VSVM_DRM_H_ */
