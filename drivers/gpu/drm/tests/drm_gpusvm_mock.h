/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
#ifndef DRM_GPUSVM_MOCK_H_
#define DRM_GPUSVM_MOCK_H_

#include <drm/drm_gpusvm.h>
#include <drm/drm_pagemap.h>

#include <kunit/test.h>

#include <linux/atomic.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/xarray.h>

#include "../drm_gpusvm_internal.h"

struct device;
struct drm_device;
struct page;

/*
 * A driver for the tests of GPU SVM.  Its GPU is a page table, and the first
 * mapping on its bus has the address 0.
 *
 * gpusvm_mock_exit() checks that nothing leaked: no DMA mapping, no range, no
 * notifier, and no entry in the page table.
 */

/* Marks the driver's own part of a range, which the helper leaves alone. */
#define GPUSVM_MOCK_MAGIC	0x600dcafe

/**
 * struct gpusvm_mock_mapping - a DMA mapping
 * @link: In &gpusvm_mock.maps.
 * @addr: Bus address.
 * @page: First page.
 * @size: Size in bytes.
 * @dir: Direction.
 */
struct gpusvm_mock_mapping {
	struct list_head link;
	dma_addr_t addr;
	struct page *page;
	size_t size;
	enum dma_data_direction dir;
};

/**
 * struct gpusvm_mock - the driver's address space
 * @gpusvm: The object under test.
 * @test: The test.
 * @dev: The device.
 * @drm: The DRM device.
 * @lock: The driver's lock.
 * @pt: The GPU's page table: a bus page number and flags for each page.
 *      Written under &drm_gpusvm.notifier_lock.
 * @garbage_lock: Protects @garbage.
 * @garbage: Ranges to be removed.
 * @dpagemap: Destination of memory that a GPU fault migrates, or NULL.
 * @stay: GPU faults do not migrate.
 * @devmem_owner: Owner cookie of the device pages.
 * @lazy: The invalidate callback does not unmap pages.
 * @deaf: The invalidate callback does nothing.
 * @invalidations: Number of calls of the invalidate callback.
 * @last_event: Event of the last one.
 * @last_valid: Number of ranges that were valid until then.
 * @ranges: Number of ranges.
 * @bus_lock: Protects @maps, @next_addr, @map_calls, @fail_map.
 * @maps: The DMA mappings.
 * @next_addr: Bus address of the next one.
 * @map_calls: Number of requests for a DMA mapping.
 * @fail_map: Number of the call that fails, counted from 1; 0: none.
 * @real_dma: The helper maps, through the DMA API.
 * @freeing: All ranges are being removed, and nobody else is at work.
 * @fail_step: Step that fails, or -1.
 * @on_look: Called each time the helper has looked up the pages.
 * @on_look_arg: Argument of @on_look.
 * @looks: Number of lookups.
 * @wrong: Number of contract violations.
 */
struct gpusvm_mock {
	struct drm_gpusvm gpusvm;
	struct kunit *test;
	struct device *dev;
	struct drm_device *drm;
	struct mutex lock;		/* see above */
	struct xarray pt;
	spinlock_t garbage_lock;	/* see above */
	struct list_head garbage;
	struct drm_pagemap *dpagemap;
	bool stay;
	void *devmem_owner;
	bool lazy;
	bool deaf;
	unsigned int invalidations;
	int last_event;
	unsigned int last_valid;
	atomic_t ranges;
	spinlock_t bus_lock;		/* see above */
	struct list_head maps;
	dma_addr_t next_addr;
	unsigned int map_calls;
	unsigned int fail_map;
	bool real_dma;
	bool freeing;
	int fail_step;
	void (*on_look)(struct gpusvm_mock *mock, void *arg);
	void *on_look_arg;
	unsigned int looks;
	atomic_t wrong;
};

/**
 * struct gpusvm_mock_range - the driver's range
 * @magic: %GPUSVM_MOCK_MAGIC.
 * @base: The helper's range, deliberately not at the start.
 * @garbage: In &gpusvm_mock.garbage.
 */
struct gpusvm_mock_range {
	u32 magic;
	struct drm_gpusvm_range base;
	struct list_head garbage;
};

static inline struct gpusvm_mock_range *
to_gpusvm_mock_range(struct drm_gpusvm_range *range)
{
	return container_of(range, struct gpusvm_mock_range, base);
}

static inline struct gpusvm_mock *to_gpusvm_mock(struct drm_gpusvm *gpusvm)
{
	return container_of(gpusvm, struct gpusvm_mock, gpusvm);
}

extern const struct drm_gpusvm_ops gpusvm_mock_ops;
extern const unsigned long gpusvm_mock_chunks[3];

/* Slots and chunks of the mock, in pages. */
#define GPUSVM_MOCK_SLOT	64
#define GPUSVM_MOCK_CHUNK	16	/* and 4, and 1 */

/* The fixture: @dev and @drm NULL for ones of its own. */
struct gpusvm_mock *gpusvm_mock_create(struct kunit *test, struct device *dev,
				       struct drm_device *drm);
void gpusvm_mock_init(struct gpusvm_mock *mock, unsigned long start,
		      unsigned long npages);
int gpusvm_mock_init_chunks(struct gpusvm_mock *mock, unsigned long start,
			    unsigned long end, unsigned long notifier_size,
			    const unsigned long *chunks, int num_chunks);
void gpusvm_mock_free(struct gpusvm_mock *mock);
void gpusvm_mock_exit(struct gpusvm_mock *mock);

/* The example, which is the driver that is tested ... */
void gpusvm_example_invalidate(struct drm_gpusvm *gpusvm,
			       struct drm_gpusvm_notifier *notifier,
			       const struct mmu_notifier_range *mmu_range);
void gpusvm_example_collect_garbage(struct gpusvm_mock *vm);
int gpusvm_example_fault(struct gpusvm_mock *vm, unsigned long addr,
			 bool write);

/* ... and the hardware-specific parts that it calls. */
void gpusvm_mock_zap_range(struct gpusvm_mock *vm,
			   struct drm_gpusvm_range *range);
void gpusvm_mock_wait_for_zap(struct gpusvm_mock *vm);
void gpusvm_mock_add_garbage(struct gpusvm_mock *vm,
			     struct drm_gpusvm_range *range);
struct drm_gpusvm_range *gpusvm_mock_next_garbage(struct gpusvm_mock *vm);
int gpusvm_mock_write_pt(struct gpusvm_mock *vm, struct drm_gpusvm_range *range,
			 bool write);
void gpusvm_mock_migrate(struct gpusvm_mock *vm,
			 struct drm_gpusvm_range *range);

/* Shortcuts: the call with the lock that it needs. */
struct drm_gpusvm_range *
gpusvm_mock_insert_ctx(struct gpusvm_mock *mock, unsigned long addr,
		       const struct drm_gpusvm_ctx *ctx);
struct drm_gpusvm_range *gpusvm_mock_insert(struct gpusvm_mock *mock,
					    unsigned long addr);
struct drm_gpusvm_range *gpusvm_mock_range(struct gpusvm_mock *mock,
					   unsigned long addr);
void gpusvm_mock_remove(struct drm_gpusvm_range *range);
int gpusvm_mock_get_ctx(struct drm_gpusvm_range *range,
			const struct drm_gpusvm_ctx *ctx);
int gpusvm_mock_get(struct drm_gpusvm_range *range, bool read_only);
int gpusvm_mock_get_mixed(struct drm_gpusvm_range *range, bool read_only);
void gpusvm_mock_unmap(struct drm_gpusvm_range *range);
int gpusvm_mock_evict(struct drm_gpusvm_range *range);
bool gpusvm_mock_valid(struct drm_gpusvm_range *range);

/* Checks. */
unsigned int gpusvm_mock_notifiers(struct gpusvm_mock *mock);
unsigned int gpusvm_mock_num_maps(struct gpusvm_mock *mock);
struct gpusvm_mock_mapping gpusvm_mock_find_map(struct gpusvm_mock *mock,
						dma_addr_t addr);
void gpusvm_mock_expect_mapped(struct drm_gpusvm_range *range, bool read_only);
void gpusvm_mock_expect_unmapped(struct drm_gpusvm_range *range);
unsigned long gpusvm_mock_check_pt(struct gpusvm_mock *mock);

/* The process's memory. */
unsigned long gpusvm_mock_mmap(struct kunit *test, unsigned long align,
			       unsigned long offset, unsigned long npages,
			       unsigned long prot);
int gpusvm_mock_touch(unsigned long addr, unsigned long npages);
int gpusvm_mock_vm_flags(unsigned long addr, unsigned long set,
			 unsigned long clear);
void gpusvm_mock_discard(unsigned long addr, unsigned long npages);

#endif
