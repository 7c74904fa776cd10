/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
#ifndef __DRM_GPUSVM_INTERNAL_H__
#define __DRM_GPUSVM_INTERNAL_H__

#include <asm/barrier.h>

#include <linux/compiler.h>
#include <linux/dma-direction.h>
#include <linux/lockdep.h>
#include <linux/mm.h>
#include <linux/types.h>

#include <drm/drm_gpusvm.h>

struct page;

/**
 * struct drm_gpusvm_span - a part of an address space
 * @start: First address.
 * @end: End address, exclusive.
 */
struct drm_gpusvm_span {
	unsigned long start;
	unsigned long end;
};

struct drm_gpusvm_span drm_gpusvm_slot(const struct drm_gpusvm *gpusvm,
				       unsigned long addr);
bool drm_gpusvm_chunk_fits(unsigned long size, unsigned long addr,
			   struct drm_gpusvm_span bounds,
			   struct drm_gpusvm_span *chunk);

/**
 * enum drm_gpusvm_step - steps that tests let fail
 * @DRM_GPUSVM_STEP_NOTIFIER: Allocation of a notifier.
 * @DRM_GPUSVM_STEP_RANGE: Allocation of a range.
 * @DRM_GPUSVM_STEP_PFNS: Allocation of the scratch array of a walk.
 * @DRM_GPUSVM_STEP_ADDRS: Allocation of &drm_gpusvm_range.dma_addr.
 * @DRM_GPUSVM_STEP_LOOK: Lookup of the pages of a range, which is over.  Tests
 *                        change the pages here, behind the helper's back.
 */
enum drm_gpusvm_step {
	DRM_GPUSVM_STEP_NOTIFIER,
	DRM_GPUSVM_STEP_RANGE,
	DRM_GPUSVM_STEP_PFNS,
	DRM_GPUSVM_STEP_ADDRS,
	DRM_GPUSVM_STEP_LOOK,
};

/* In drm_gpusvm_pages.c */
bool drm_gpusvm_inject(struct drm_gpusvm *gpusvm, enum drm_gpusvm_step step);
dma_addr_t __drm_gpusvm_dma_map(struct drm_gpusvm *gpusvm, struct page *page,
				size_t size, enum dma_data_direction dir);
void __drm_gpusvm_dma_unmap(struct drm_gpusvm *gpusvm, dma_addr_t addr,
			    size_t size, enum dma_data_direction dir);
dma_addr_t drm_gpusvm_dma_map(struct drm_gpusvm *gpusvm, struct page *page,
			      size_t size, enum dma_data_direction dir);
void drm_gpusvm_dma_unmap(struct drm_gpusvm *gpusvm, dma_addr_t addr,
			  size_t size, enum dma_data_direction dir);
void drm_gpusvm_unmap_locked(struct drm_gpusvm_range *range);

#ifdef CONFIG_LOCKDEP
/* @read: as for lock_is_held_type(), 0: exclusively, -1: in any mode. */
static inline void drm_gpusvm_driver_lock_held(struct drm_gpusvm *gpusvm,
					       int read)
{
	if (gpusvm->lock_dep_map)
		lockdep_assert(lock_is_held_type(gpusvm->lock_dep_map, read));
}

/* Ranges are looked up under this, or the notifier lock held for writing. */
static inline void drm_gpusvm_ranges_held(struct drm_gpusvm *gpusvm)
{
	if (!lockdep_is_held_type(&gpusvm->notifier_lock, 0))
		drm_gpusvm_driver_lock_held(gpusvm, -1);
}
#else
static inline void drm_gpusvm_driver_lock_held(struct drm_gpusvm *gpusvm,
					       int read)
{
}

static inline void drm_gpusvm_ranges_held(struct drm_gpusvm *gpusvm)
{
}
#endif

/*
 * The state of a range changes under the notifier lock held for writing, or for
 * reading together with the range's map_lock.
 */
static inline void drm_gpusvm_range_state_held(struct drm_gpusvm_range *range)
{
	lockdep_assert_held(&range->gpusvm->notifier_lock);
	lockdep_assert(lockdep_is_held_type(&range->gpusvm->notifier_lock, 0) ||
		       lockdep_is_held(&range->map_lock));
}

static inline unsigned long
drm_gpusvm_npages(struct drm_gpusvm_range *range)
{
	return drm_gpusvm_range_size(range) >> PAGE_SHIFT;
}

/*
 * Whether the process could write there with ordinary instructions, so that the
 * device may.  Only calls write the return addresses of a shadow stack.
 */
static inline bool drm_gpusvm_vma_writable(const struct vm_area_struct *vma)
{
	return vma->vm_flags & VM_WRITE && !(vma->vm_flags & VM_SHADOW_STACK);
}

/*
 * Under the notifier lock held for reading, another reader may just have mapped
 * the range, and the flags are what gives access to its addresses.
 */
static inline struct drm_gpusvm_range_flags
drm_gpusvm_range_flags(const struct drm_gpusvm_range *range)
{
	return (struct drm_gpusvm_range_flags) {
		/* Pairs with drm_gpusvm_range_set_flags(). */
		.__flags = smp_load_acquire(&range->flags.__flags),
	};
}

/* Lockless readers must not see intermediate values. */
static inline void
drm_gpusvm_range_set_flags(struct drm_gpusvm_range *range,
			   struct drm_gpusvm_range_flags flags)
{
	drm_gpusvm_range_state_held(range);

	/* The flags become visible after the state that they describe. */
	smp_store_release(&range->flags.__flags, flags.__flags);
}

/* The process's memory changes: mappings and lookups are out of date. */
static inline void drm_gpusvm_range_set_stale(struct drm_gpusvm_range *range)
{
	lockdep_assert_held_write(&range->gpusvm->notifier_lock);

	range->stale = true;
	range->epoch++;
}

#endif
