/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
#ifndef _DRM_GPUSVM_H_
#define _DRM_GPUSVM_H_

#include <linux/bug.h>
#include <linux/interval_tree.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/lockdep.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/rbtree.h>
#include <linux/rwsem.h>
#include <linux/types.h>

struct drm_device;
struct drm_gpusvm;
struct drm_gpusvm_notifier;
struct drm_gpusvm_range;
struct drm_pagemap;
struct drm_pagemap_device_addr;
struct mm_struct;

/**
 * struct drm_gpusvm_ops - operations of a driver
 */
struct drm_gpusvm_ops {
	/**
	 * @notifier_alloc: Allocate the driver's object around a struct
	 * drm_gpusvm_notifier.  The helper initializes the embedded struct, and
	 * only that.  Called in process context with the driver's lock held;
	 * may sleep.  Optional: without it, the helper allocates the bare
	 * struct.
	 *
	 * Returns NULL if out of memory.
	 */
	struct drm_gpusvm_notifier *(*notifier_alloc)(void);

	/**
	 * @notifier_free: Undo @notifier_alloc, in the same context.  Optional,
	 * kfree() by default.
	 */
	void (*notifier_free)(struct drm_gpusvm_notifier *notifier);

	/**
	 * @range_alloc: Allocate the driver's object around a struct
	 * drm_gpusvm_range.  The helper initializes the embedded struct, and
	 * only that.  Called in process context with the driver's lock and the
	 * mmap lock held; may sleep.  Optional: without it, the helper
	 * allocates the bare struct.
	 *
	 * Returns NULL if out of memory.
	 */
	struct drm_gpusvm_range *(*range_alloc)(struct drm_gpusvm *gpusvm);

	/**
	 * @range_free: Undo @range_alloc, in the context of the last
	 * drm_gpusvm_range_put().  Optional, kfree() by default.
	 */
	void (*range_free)(struct drm_gpusvm_range *range);

	/**
	 * @invalidate: The mappings of the process in @mmu_range are about to
	 * change: zap the GPU's translations of the ranges in it, wait until
	 * the GPU no longer uses them, then call
	 * drm_gpusvm_range_unmap_pages() for these ranges, and for
	 * %MMU_NOTIFY_UNMAP drm_gpusvm_range_set_unmapped(), too.
	 * Afterwards it is too late to unmap the pages: they may belong to
	 * somebody else, and the device memory may be gone.
	 * @mmu_range may reach beyond @notifier.
	 *
	 * Called with &drm_gpusvm.notifier_lock held for writing and usually
	 * locks of the mm core: must neither allocate memory in a way that
	 * enters reclaim, nor take a lock under which memory is allocated, or
	 * under which this layer is called.  May sleep.  Must not
	 * fail.  Calls for one &struct drm_gpusvm never run concurrently.
	 */
	void (*invalidate)(struct drm_gpusvm *gpusvm,
			   struct drm_gpusvm_notifier *notifier,
			   const struct mmu_notifier_range *mmu_range);
};

/**
 * struct drm_gpusvm_notifier - the watch on a slot of the address space
 * @gpusvm: The struct drm_gpusvm that it is part of.
 * @notifier: The mmu interval notifier of the slot.
 * @itree: Node in &drm_gpusvm.root, the slot's addresses.
 *         Protected by the driver's lock.
 * @entry: Node in &drm_gpusvm.notifier_list.  Protected by the driver's lock.
 * @root: The ranges in the slot.  Protected by the driver's lock together with
 *        &drm_gpusvm.notifier_lock, see the locking section.
 * @range_list: The ranges in the order of their addresses.  Protected as @root.
 * @flags: State of the notifier.
 * @flags.removed: The mmu interval notifier is gone already.  Protected by the
 *                 driver's lock.
 *
 * The driver may embed it in an object of its own,
 * &drm_gpusvm_ops.notifier_alloc.
 */
struct drm_gpusvm_notifier {
	struct drm_gpusvm *gpusvm;
	struct mmu_interval_notifier notifier;
	struct interval_tree_node itree;
	struct list_head entry;
	struct rb_root_cached root;
	struct list_head range_list;
	struct {
		u32 removed : 1;
	} flags;
};

/**
 * struct drm_gpusvm_range_flags - the state of a range
 * @migrate_devmem: The memory of the range is of a kind that may migrate to the
 *                  device.  Constant.
 * @unmapped: The process has unmapped memory of the range, or the range was
 *            removed.  It can no longer be mapped.
 * @partial_unmap: Only a part of the range was unmapped.
 * @has_devmem_pages: &drm_gpusvm_range.dma_addr has device pages, and nothing
 *                    else unless they were mapped with
 *                    &drm_gpusvm_ctx.allow_mixed.
 * @has_dma_mapping: &drm_gpusvm_range.dma_addr has mappings, of either kind.
 * @__flags: All flags, for a single READ_ONCE() without
 *           &drm_gpusvm.notifier_lock.
 *
 * Written only by the helper, all at once.
 */
struct drm_gpusvm_range_flags {
	union {
		struct {
			u16 migrate_devmem : 1;
			u16 unmapped : 1;
			u16 partial_unmap : 1;
			u16 has_devmem_pages : 1;
			u16 has_dma_mapping : 1;
		};
		u16 __flags;
	};
};

/**
 * struct drm_gpusvm_range - a part of the address space that is mapped for the
 * GPU as a unit
 * @gpusvm: The struct drm_gpusvm that it is part of.
 * @notifier: The notifier of its slot.
 * @refcount: References; one of them is dropped by drm_gpusvm_range_remove().
 * @itree: Node in &drm_gpusvm_notifier.root, the range's addresses.
 *         Protected as the tree.
 * @entry: Node in &drm_gpusvm_notifier.range_list.  Protected as the list.
 * @notifier_seq: Sequence number of the notifier when the pages were mapped.
 *                Protected by &drm_gpusvm.notifier_lock.
 * @dma_addr: Addresses of the range's pages for the device, one entry for each
 *            mapping, in the order of the pages.  An entry of order n stands
 *            for 2^n pages; the entries end where these add up to the size of
 *            the range, and the rest of the array is unused.  Valid only while
 *            drm_gpusvm_range_pages_valid() is true.
 *            Protected by &drm_gpusvm.notifier_lock.
 * @dpagemap: The memory that the device pages of the range are part of, or NULL
 *            if it has none.  Protected by &drm_gpusvm.notifier_lock.
 * @flags: State of the range.  Changed under &drm_gpusvm.notifier_lock.
 *
 * The driver may embed it in an object of its own, &drm_gpusvm_ops.range_alloc.
 */
struct drm_gpusvm_range {
	struct drm_gpusvm *gpusvm;
	struct drm_gpusvm_notifier *notifier;
	struct kref refcount;
	struct interval_tree_node itree;
	struct list_head entry;
	unsigned long notifier_seq;
	struct drm_pagemap_device_addr *dma_addr;
	struct drm_pagemap *dpagemap;
	struct drm_gpusvm_range_flags flags;

	/* private: */
	/*
	 * Nests in the notifier lock held for reading, and serializes changes
	 * of the mappings among its holders.
	 */
	struct mutex map_lock;
	/* The mappings are for reading.  Protected as @dma_addr. */
	bool read_only;
	/* The process's memory changed since.  Protected as @dma_addr. */
	bool stale;
	/* Number of changes.  Protected by &drm_gpusvm.notifier_lock. */
	unsigned long epoch;
};

/**
 * struct drm_gpusvm - the part of an address space that a GPU mirrors
 * @name: Name, for messages.
 * @drm: The device that the pages are mapped for.
 * @mm: The address space; holds mm_count.
 * @device_private_page_owner: Owner cookie of the device-private pages that the
 *                             device can access.
 * @mm_start: First address that is mirrored.
 * @mm_range: Size in bytes of the mirrored addresses.
 * @notifier_size: Size in bytes of the slots, a power of two.
 * @ops: The driver's operations.
 * @chunk_sizes: Sizes in bytes that ranges may have: powers of two, descending.
 *               The driver's array, not a copy.
 * @num_chunks: Entries of @chunk_sizes.
 * @notifier_lock: Keeps the ranges' mappings in step with the process's.  The
 *                 invalidation of mappings is the writer, see the locking
 *                 section.
 * @root: The notifiers.  Protected by the driver's lock.
 * @notifier_list: The notifiers in the order of their addresses.  Protected by
 *                 the driver's lock.
 * @lock_dep_map: The driver's lock, see drm_gpusvm_driver_set_lock().
 *
 * Embedded in the driver's object and not reference counted: it must outlive
 * drm_gpusvm_fini() and the last drm_gpusvm_range_put().  drm_gpusvm_init()
 * sets all members; the driver only reads them.
 */
struct drm_gpusvm {
	const char *name;
	struct drm_device *drm;
	struct mm_struct *mm;
	void *device_private_page_owner;
	unsigned long mm_start;
	unsigned long mm_range;
	unsigned long notifier_size;
	const struct drm_gpusvm_ops *ops;
	const unsigned long *chunk_sizes;
	int num_chunks;
	struct rw_semaphore notifier_lock;
	struct rb_root_cached root;
	struct list_head notifier_list;
#ifdef CONFIG_LOCKDEP
	struct lockdep_map *lock_dep_map;
#endif
	/* private: how long to retry */
	unsigned int timeout_ms;
};

/**
 * struct drm_gpusvm_ctx - options of a call
 * @check_pages_threshold: Chunks up to and including this size in bytes are
 *                         chosen only if all of their pages are present; larger
 *                         ones without a check.  The smallest chunk that fits
 *                         is always good enough.  0: no check at all.
 * @timeslice_ms: Milliseconds that pages stay on the device, for the driver to
 *                pass to drm_pagemap_populate_mm().
 * @in_notifier: The caller is &drm_gpusvm_ops.invalidate, and
 *               &drm_gpusvm.notifier_lock is held for writing.
 * @read_only: The device does not write.
 * @devmem_possible: The memory may migrate to the device, if its kind allows
 *                   that.
 * @devmem_only: Only device pages may be mapped.
 * @allow_mixed: Some pages of a range may be in device memory, and others in
 *               RAM.  Without it, a range is in device memory as a whole, or
 *               not at all.
 */
struct drm_gpusvm_ctx {
	unsigned long check_pages_threshold;
	unsigned long timeslice_ms;
	unsigned int in_notifier : 1;
	unsigned int read_only : 1;
	unsigned int devmem_possible : 1;
	unsigned int devmem_only : 1;
	unsigned int allow_mixed : 1;
};

int drm_gpusvm_init(struct drm_gpusvm *gpusvm,
		    const char *name, struct drm_device *drm,
		    struct mm_struct *mm, void *device_private_page_owner,
		    unsigned long mm_start, unsigned long mm_range,
		    unsigned long notifier_size,
		    const struct drm_gpusvm_ops *ops,
		    const unsigned long *chunk_sizes, int num_chunks);
void drm_gpusvm_fini(struct drm_gpusvm *gpusvm);
void drm_gpusvm_free(struct drm_gpusvm *gpusvm);

unsigned long drm_gpusvm_find_vma_start(struct drm_gpusvm *gpusvm,
					unsigned long start,
					unsigned long end);

struct drm_gpusvm_range *
drm_gpusvm_range_find_or_insert(struct drm_gpusvm *gpusvm,
				unsigned long fault_addr,
				unsigned long gpuva_start,
				unsigned long gpuva_end,
				const struct drm_gpusvm_ctx *ctx);
void drm_gpusvm_range_remove(struct drm_gpusvm *gpusvm,
			     struct drm_gpusvm_range *range);
int drm_gpusvm_range_evict(struct drm_gpusvm *gpusvm,
			   struct drm_gpusvm_range *range);

struct drm_gpusvm_range *drm_gpusvm_range_get(struct drm_gpusvm_range *range);
void drm_gpusvm_range_put(struct drm_gpusvm_range *range);

bool drm_gpusvm_range_pages_valid(struct drm_gpusvm *gpusvm,
				  struct drm_gpusvm_range *range);
int drm_gpusvm_range_get_pages(struct drm_gpusvm *gpusvm,
			       struct drm_gpusvm_range *range,
			       const struct drm_gpusvm_ctx *ctx);
void drm_gpusvm_range_unmap_pages(struct drm_gpusvm *gpusvm,
				  struct drm_gpusvm_range *range,
				  const struct drm_gpusvm_ctx *ctx);

bool drm_gpusvm_has_mapping(struct drm_gpusvm *gpusvm,
			    unsigned long start, unsigned long end);
struct drm_gpusvm_range *
drm_gpusvm_range_find(struct drm_gpusvm_notifier *notifier,
		      unsigned long start, unsigned long end);
void drm_gpusvm_range_set_unmapped(struct drm_gpusvm_range *range,
				   const struct mmu_notifier_range *mmu_range);

#ifdef CONFIG_LOCKDEP
static inline void __drm_gpusvm_driver_set_lock(struct drm_gpusvm *gpusvm,
						struct lockdep_map *map)
{
	if (!WARN_ON(gpusvm->lock_dep_map))
		gpusvm->lock_dep_map = map;
}

/**
 * drm_gpusvm_driver_set_lock() - Name the driver's lock
 * @gpusvm: The struct, after drm_gpusvm_init().
 * @lock: The mutex or rw_semaphore that is the driver's lock, see the locking
 *        section.
 *
 * From then on, lockdep checks that it is held.  To be called once.
 *
 * Context: Any.
 */
#define drm_gpusvm_driver_set_lock(gpusvm, lock) \
	__drm_gpusvm_driver_set_lock(gpusvm, &(lock)->dep_map)
#else
#define drm_gpusvm_driver_set_lock(gpusvm, lock) \
	do { (void)(gpusvm); (void)(lock); } while (0)
#endif

/**
 * drm_gpusvm_notifier_lock() - Keep the mappings as they are
 * @gpusvm__: The &struct drm_gpusvm.
 *
 * Takes &drm_gpusvm.notifier_lock for reading, so that no invalidation runs.
 * Neither allocate memory in a way that enters reclaim nor fault on memory
 * until drm_gpusvm_notifier_unlock().
 *
 * Context: Process context, may sleep.
 */
#define drm_gpusvm_notifier_lock(gpusvm__) \
	down_read(&(gpusvm__)->notifier_lock)

/**
 * drm_gpusvm_notifier_unlock() - Let the mappings change again
 * @gpusvm__: The &struct drm_gpusvm.
 *
 * Context: Process context.
 */
#define drm_gpusvm_notifier_unlock(gpusvm__) \
	up_read(&(gpusvm__)->notifier_lock)

/**
 * drm_gpusvm_range_start() - First address of a range
 * @range: The range.
 *
 * Context: Any.
 * Return: The address, aligned to the size of the range.
 */
static inline unsigned long
drm_gpusvm_range_start(struct drm_gpusvm_range *range)
{
	return range->itree.start;
}

/**
 * drm_gpusvm_range_end() - End address of a range
 * @range: The range.
 *
 * Context: Any.
 * Return: The address after the range.
 */
static inline unsigned long
drm_gpusvm_range_end(struct drm_gpusvm_range *range)
{
	return range->itree.last + 1;
}

/**
 * drm_gpusvm_range_size() - Size of a range
 * @range: The range.
 *
 * Context: Any.
 * Return: The size in bytes, one of &drm_gpusvm.chunk_sizes.
 */
static inline unsigned long
drm_gpusvm_range_size(struct drm_gpusvm_range *range)
{
	return drm_gpusvm_range_end(range) - drm_gpusvm_range_start(range);
}

/**
 * drm_gpusvm_notifier_start() - First address of a notifier's slot
 * @notifier: The notifier.
 *
 * Context: Any.
 * Return: The address.
 */
static inline unsigned long
drm_gpusvm_notifier_start(struct drm_gpusvm_notifier *notifier)
{
	return notifier->itree.start;
}

/**
 * drm_gpusvm_notifier_end() - End address of a notifier's slot
 * @notifier: The notifier.
 *
 * Context: Any.
 * Return: The address after the slot.
 */
static inline unsigned long
drm_gpusvm_notifier_end(struct drm_gpusvm_notifier *notifier)
{
	return notifier->itree.last + 1;
}

/**
 * drm_gpusvm_notifier_size() - Size of a notifier's slot
 * @notifier: The notifier.
 *
 * Context: Any.
 * Return: The size in bytes: &drm_gpusvm.notifier_size, or less at the edges of
 * the mirrored addresses.
 */
static inline unsigned long
drm_gpusvm_notifier_size(struct drm_gpusvm_notifier *notifier)
{
	return drm_gpusvm_notifier_end(notifier) -
	       drm_gpusvm_notifier_start(notifier);
}

/**
 * __drm_gpusvm_range_next() - The range after a range
 * @range: A range of a notifier, or NULL.
 *
 * Context: Under the driver's lock, or &drm_gpusvm.notifier_lock held for
 * writing.
 * Return: The range of the same notifier with the next addresses, or NULL.
 */
static inline struct drm_gpusvm_range *
__drm_gpusvm_range_next(struct drm_gpusvm_range *range)
{
	if (!range || list_is_last(&range->entry, &range->notifier->range_list))
		return NULL;

	return list_next_entry(range, entry);
}

/**
 * drm_gpusvm_for_each_range() - Go over the ranges of a notifier
 * @range__: Cursor, a &struct drm_gpusvm_range pointer.  If it is not NULL, the
 *           iteration starts from it.
 * @notifier__: The notifier.
 * @start__: Address to start from.
 * @end__: Address to end before.
 *
 * No range may be removed meanwhile.
 *
 * Context: Under the driver's lock, or &drm_gpusvm.notifier_lock held for
 * writing, as in &drm_gpusvm_ops.invalidate.
 */
#define drm_gpusvm_for_each_range(range__, notifier__, start__, end__) \
	for ((range__) = (range__) ?: \
	     drm_gpusvm_range_find((notifier__), (start__), (end__)); \
	     (range__) && drm_gpusvm_range_start(range__) < (end__); \
	     (range__) = __drm_gpusvm_range_next(range__))

#endif
