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
 * vsvm is a GPU made of software.  It moves anonymous memory of a process into
 * its own, device-private memory, without a change of address, and the CPU
 * faults it back.
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
 * signal ends prefetch and residency with -EINTR.
 */

#define DRM_VSVM_QUERY		0x00
#define DRM_VSVM_VM_CREATE	0x01
#define DRM_VSVM_VM_DESTROY	0x02
#define DRM_VSVM_PREFETCH	0x03
#define DRM_VSVM_RESIDENCY	0x04

/**
 * struct drm_vsvm_query - properties and limits of the device
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

	/** @vram_used: [out] Bytes of it that are allocated now, by anybody. */
	__u64 vram_used;

	/** @page_size: [out] Unit of all addresses and sizes, in bytes. */
	__u32 page_size;

	/** @chunk_size: [out] Largest single allocation of a prefetch, in bytes. */
	__u32 chunk_size;

	/** @max_vms: [out] How many VMs one open file may have. */
	__u32 max_vms;

	/** @max_timeslice_ms: [out] Limit of &drm_vsvm_prefetch.timeslice_ms. */
	__u32 max_timeslice_ms;
};

/**
 * struct drm_vsvm_vm_create - make a VM
 *
 * A VM is the device's view of the address space of the process that creates
 * it.  It belongs to the open file, but can only be used by that process: a
 * child that inherits the file gets -EPERM, and makes a VM of its own.
 *
 * A VM owns no memory.  What was moved to the device stays there when the VM or
 * the file is closed, and comes back when the CPU touches it.
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
 * enum drm_vsvm_place - where a page is
 */
enum drm_vsvm_place {
	/**
	 * @DRM_VSVM_PLACE_NONE: Nowhere: never touched, swapped out, or in
	 * another driver's device memory.
	 */
	DRM_VSVM_PLACE_NONE = 0,

	/** @DRM_VSVM_PLACE_SYSTEM: In system memory. */
	DRM_VSVM_PLACE_SYSTEM = 1,

	/** @DRM_VSVM_PLACE_DEVICE: In the memory of the device asked. */
	DRM_VSVM_PLACE_DEVICE = 2,

	/** @DRM_VSVM_PLACE_PEER: In the memory of another vsvm device. */
	DRM_VSVM_PLACE_PEER = 3,

	/**
	 * @DRM_VSVM_PLACE_UNMAPPED: No memory that a device may see: no
	 * mapping, one that cannot be read, or one of I/O memory.
	 */
	DRM_VSVM_PLACE_UNMAPPED = 4,
};

/**
 * DRM_VSVM_PREFETCH_PARTIAL - Leave what cannot be moved and go on.
 */
#define DRM_VSVM_PREFETCH_PARTIAL	(1u << 0)

/**
 * struct drm_vsvm_prefetch - move a range of memory
 *
 * To the device: moves anonymous memory, page by page where a page is not there
 * yet.  The range is handled in steps that end at the borders of mappings and
 * at multiples of &drm_vsvm_query.chunk_size; each step makes one allocation.
 * When device memory is full, the oldest allocations are moved to system
 * memory, whoever owns them.  Pages that were never touched become pages of
 * zeroes on the device.
 *
 * To system memory: brings back what is in the memory of this device or of a
 * peer, and leaves everything else as it is.  Waits for a timeslice, like the
 * CPU does.
 *
 * Without %DRM_VSVM_PREFETCH_PARTIAL the ioctl stops with an error at the first
 * step that cannot be completed.  Steps before it stay done, and the three
 * counts are valid on every error but -EFAULT of the structure itself.
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
 * mapping is not of anonymous memory.  With %DRM_VSVM_PREFETCH_PARTIAL, the one
 * is skipped and the pages of the other count as left.
 *
 * -EBUSY: pages cannot be moved now, for instance since they are pinned, or are
 * in the memory of a peer.  Never with %DRM_VSVM_PREFETCH_PARTIAL.
 *
 * -ENOSPC: no device memory, although others were asked to give theirs back.
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
	 * @timeslice_ms: For how many milliseconds the CPU has to wait for the
	 * pages that are moved now, at most &drm_vsvm_query.max_timeslice_ms.
	 */
	__u32 timeslice_ms;

	/**
	 * @fault_window: How many bytes a CPU access brings back at once, of
	 * the pages that are moved now: a multiple of the page size, at most
	 * &drm_vsvm_query.chunk_size; zero for the whole allocation.
	 */
	__u64 fault_window;

	/** @moved: [out] Pages that were moved. */
	__u64 moved;

	/** @resident: [out] Pages that were where they should be already. */
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
 * struct drm_vsvm_residency - tell where each page of a range is
 *
 * Moves nothing and faults nothing in.  Each step of
 * &drm_vsvm_query.chunk_size is consistent in itself.
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
 * -EBUSY: the memory changes all the time.
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

#define DRM_IOCTL_VSVM_QUERY \
	DRM_IOWR(DRM_COMMAND_BASE + DRM_VSVM_QUERY, struct drm_vsvm_query)
#define DRM_IOCTL_VSVM_VM_CREATE \
	DRM_IOWR(DRM_COMMAND_BASE + DRM_VSVM_VM_CREATE, struct drm_vsvm_vm_create)
#define DRM_IOCTL_VSVM_VM_DESTROY \
	DRM_IOW(DRM_COMMAND_BASE + DRM_VSVM_VM_DESTROY, struct drm_vsvm_vm_destroy)
#define DRM_IOCTL_VSVM_PREFETCH \
	DRM_IOWR(DRM_COMMAND_BASE + DRM_VSVM_PREFETCH, struct drm_vsvm_prefetch)
#define DRM_IOCTL_VSVM_RESIDENCY \
	DRM_IOW(DRM_COMMAND_BASE + DRM_VSVM_RESIDENCY, struct drm_vsvm_residency)

#if defined(__cplusplus)
}
#endif

#endif /* _VSVM_DRM_H_ */
