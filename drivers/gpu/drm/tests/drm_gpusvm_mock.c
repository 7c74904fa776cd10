// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * A driver for the tests of GPU SVM.
 */

#include "drm_gpusvm_mock.h"
#include "drm_pagemap_mock.h"

#include <drm/drm_device.h>
#include <drm/drm_drv.h>
#include <drm/drm_kunit_helpers.h>

#include <kunit/static_stub.h>

#include <linux/bitfield.h>
#include <linux/dma-mapping.h>
#include <linux/hmm.h>
#include <linux/mman.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

/* An entry of the GPU's page table: a page number and two flags. */
#define PT_WRITE	BIT(0)
#define PT_DEVMEM	BIT(1)
#define PT_SHIFT	2

const unsigned long gpusvm_mock_chunks[3] = {
	(unsigned long)GPUSVM_MOCK_CHUNK << PAGE_SHIFT,
	4UL << PAGE_SHIFT,
	PAGE_SIZE,
};

/* Runs in any thread, so gpusvm_mock_exit() fails the case instead. */
static void gpusvm_mock_wrong(struct gpusvm_mock *mock, const char *what)
{
	if (atomic_inc_return(&mock->wrong) <= 8)
		pr_err("gpusvm mock: %s: %s\n", mock->test->name, what);
}

/* The seams of the helper */

static bool gpusvm_mock_inject(struct drm_gpusvm *gpusvm,
			       enum drm_gpusvm_step step)
{
	struct gpusvm_mock *mock = to_gpusvm_mock(gpusvm);

	if (step != DRM_GPUSVM_STEP_LOOK)
		return step == mock->fail_step;

	mock->looks++;
	if (mock->on_look)
		mock->on_look(mock, mock->on_look_arg);

	return false;
}

static dma_addr_t gpusvm_mock_bus_map(struct gpusvm_mock *mock,
				      struct gpusvm_mock_mapping *map)
{
	if (++mock->map_calls == mock->fail_map)
		return DMA_MAPPING_ERROR;
	if (mock->real_dma)
		return __drm_gpusvm_dma_map(&mock->gpusvm, map->page,
					    map->size, map->dir);

	map->addr = ALIGN(mock->next_addr, map->size);
	mock->next_addr = map->addr + map->size;

	return map->addr;
}

/* Called where memory must not be reclaimed. */
static dma_addr_t gpusvm_mock_dma_map(struct drm_gpusvm *gpusvm,
				      struct page *page, size_t size,
				      enum dma_data_direction dir)
{
	struct gpusvm_mock *mock = to_gpusvm_mock(gpusvm);
	struct gpusvm_mock_mapping *map = kzalloc(sizeof(*map), GFP_ATOMIC);
	dma_addr_t addr;

	if (!map)
		return DMA_MAPPING_ERROR;

	map->page = page;
	map->size = size;
	map->dir = dir;
	spin_lock(&mock->bus_lock);
	addr = gpusvm_mock_bus_map(mock, map);
	map->addr = addr;
	if (!dma_mapping_error(mock->dev, addr))
		list_add(&map->link, &mock->maps);
	else
		kfree(map);
	spin_unlock(&mock->bus_lock);

	return addr;
}

/* The mapping that starts at @addr, or with @any contains it. */
static struct gpusvm_mock_mapping *
gpusvm_mock_lookup(struct gpusvm_mock *mock, dma_addr_t addr, bool any)
{
	struct gpusvm_mock_mapping *map;

	lockdep_assert_held(&mock->bus_lock);

	list_for_each_entry(map, &mock->maps, link)
		if (map->addr == addr ||
		    (any && addr > map->addr && addr - map->addr < map->size))
			return map;

	return NULL;
}

static void gpusvm_mock_dma_unmap(struct drm_gpusvm *gpusvm, dma_addr_t addr,
				  size_t size, enum dma_data_direction dir)
{
	struct gpusvm_mock *mock = to_gpusvm_mock(gpusvm);
	struct drm_gpusvm_notifier *notifier;
	struct gpusvm_mock_mapping *map;

	if (mock->freeing)
		list_for_each_entry(notifier, &gpusvm->notifier_list, entry)
			if (notifier->flags.removed)
				gpusvm_mock_wrong(mock, "unmap without a notifier");

	spin_lock(&mock->bus_lock);
	map = gpusvm_mock_lookup(mock, addr, false);
	if (map)
		list_del(&map->link);
	spin_unlock(&mock->bus_lock);

	if (!map)
		gpusvm_mock_wrong(mock, "unmap where nothing is mapped");
	else if (map->size != size || map->dir != dir)
		gpusvm_mock_wrong(mock, "unmapped not as mapped");
	else if (mock->real_dma)
		__drm_gpusvm_dma_unmap(gpusvm, addr, size, dir);
	kfree(map);
}

/* Operations.  They allocate structs that are full of rubbish. */

static struct drm_gpusvm_notifier *gpusvm_mock_notifier_alloc(void)
{
	struct drm_gpusvm_notifier *notifier;

	notifier = kmalloc(sizeof(*notifier), GFP_KERNEL);
	if (notifier)
		memset(notifier, 0x5a, sizeof(*notifier));

	return notifier;
}

static void gpusvm_mock_notifier_free(struct drm_gpusvm_notifier *notifier)
{
	if (!RB_EMPTY_ROOT(&notifier->root.rb_root))
		gpusvm_mock_wrong(to_gpusvm_mock(notifier->gpusvm),
				  "notifier freed with ranges");
	kfree(notifier);
}

static struct drm_gpusvm_range *
gpusvm_mock_range_alloc(struct drm_gpusvm *gpusvm)
{
	struct gpusvm_mock_range *range = kmalloc(sizeof(*range), GFP_KERNEL);

	if (!range)
		return NULL;

	memset(range, 0x5a, sizeof(*range));
	range->magic = GPUSVM_MOCK_MAGIC;
	INIT_LIST_HEAD(&range->garbage);
	atomic_inc(&to_gpusvm_mock(gpusvm)->ranges);

	return &range->base;
}

static void gpusvm_mock_range_free(struct drm_gpusvm_range *base)
{
	struct gpusvm_mock_range *range = to_gpusvm_mock_range(base);
	struct gpusvm_mock *mock = to_gpusvm_mock(base->gpusvm);

	/* It may have become garbage while everything was freed. */
	spin_lock(&mock->garbage_lock);
	list_del(&range->garbage);
	spin_unlock(&mock->garbage_lock);
	if (range->magic != GPUSVM_MOCK_MAGIC)
		gpusvm_mock_wrong(mock, "freed range is damaged");
	if (base->dma_addr || base->flags.has_dma_mapping)
		gpusvm_mock_wrong(mock, "freed range is mapped");
	atomic_dec(&mock->ranges);
	kfree(range);
}

static void gpusvm_mock_zap_pt(struct gpusvm_mock *mock, unsigned long start,
			       unsigned long end)
{
	unsigned long page;
	void *entry;

	xa_for_each_range(&mock->pt, page, entry, start >> PAGE_SHIFT,
			  (end - 1) >> PAGE_SHIFT)
		xa_erase(&mock->pt, page);
}

void gpusvm_mock_zap_range(struct gpusvm_mock *vm,
			   struct drm_gpusvm_range *range)
{
	lockdep_assert_held_write(&vm->gpusvm.notifier_lock);

	gpusvm_mock_zap_pt(vm, drm_gpusvm_range_start(range),
			   drm_gpusvm_range_end(range));
}

/* This GPU has no cache of translations. */
void gpusvm_mock_wait_for_zap(struct gpusvm_mock *vm)
{
}

void gpusvm_mock_add_garbage(struct gpusvm_mock *vm,
			     struct drm_gpusvm_range *range)
{
	spin_lock(&vm->garbage_lock);
	if (list_empty(&to_gpusvm_mock_range(range)->garbage))
		list_add(&to_gpusvm_mock_range(range)->garbage, &vm->garbage);
	spin_unlock(&vm->garbage_lock);
}

/* A driver that keeps all mappings. */
static void
gpusvm_mock_lazy_invalidate(struct gpusvm_mock *mock,
			    struct drm_gpusvm_notifier *notifier,
			    const struct mmu_notifier_range *mmu_range)
{
	struct drm_gpusvm_range *range = NULL;

	drm_gpusvm_for_each_range(range, notifier, mmu_range->start,
				  mmu_range->end) {
		gpusvm_mock_zap_range(mock, range);
		if (mmu_range->event == MMU_NOTIFY_UNMAP) {
			drm_gpusvm_range_set_unmapped(range, mmu_range);
			gpusvm_mock_add_garbage(mock, range);
		}
	}
}

static unsigned int
gpusvm_mock_count_valid(struct drm_gpusvm *gpusvm,
			struct drm_gpusvm_notifier *notifier,
			const struct mmu_notifier_range *mmu_range)
{
	struct drm_gpusvm_range *range = NULL;
	unsigned int n = 0;

	drm_gpusvm_for_each_range(range, notifier, mmu_range->start,
				  mmu_range->end)
		n += drm_gpusvm_range_pages_valid(gpusvm, range);
	return n;
}

static void gpusvm_mock_invalidate(struct drm_gpusvm *gpusvm,
				   struct drm_gpusvm_notifier *notifier,
				   const struct mmu_notifier_range *mmu_range)
{
	struct gpusvm_mock *mock = to_gpusvm_mock(gpusvm);

	mock->invalidations++;
	mock->last_event = mmu_range->event;
	mock->last_valid = gpusvm_mock_count_valid(gpusvm, notifier, mmu_range);
	if (mock->lazy)
		gpusvm_mock_lazy_invalidate(mock, notifier, mmu_range);
	else if (!mock->deaf)
		gpusvm_example_invalidate(gpusvm, notifier, mmu_range);
}

const struct drm_gpusvm_ops gpusvm_mock_ops = {
	.notifier_alloc = gpusvm_mock_notifier_alloc,
	.notifier_free = gpusvm_mock_notifier_free,
	.range_alloc = gpusvm_mock_range_alloc,
	.range_free = gpusvm_mock_range_free,
	.invalidate = gpusvm_mock_invalidate,
};

/* The hardware-specific parts of the example */

struct drm_gpusvm_range *gpusvm_mock_next_garbage(struct gpusvm_mock *vm)
{
	struct gpusvm_mock_range *range;

	spin_lock(&vm->garbage_lock);
	range = list_first_entry_or_null(&vm->garbage, struct gpusvm_mock_range,
					 garbage);
	if (range)
		list_del_init(&range->garbage);
	spin_unlock(&vm->garbage_lock);

	return range ? &range->base : NULL;
}

/* Called with the notifier lock, where memory must not be reclaimed. */
int gpusvm_mock_write_pt(struct gpusvm_mock *vm, struct drm_gpusvm_range *range,
			 bool write)
{
	unsigned long first = drm_gpusvm_range_start(range) >> PAGE_SHIFT;
	unsigned long npages = drm_gpusvm_range_size(range) >> PAGE_SHIFT;
	struct drm_pagemap_device_addr *addr = range->dma_addr;
	unsigned long i, j, pte;
	int err;

	for (i = 0; i < npages; i += 1UL << addr->order, addr++) {
		for (j = 0; j < 1UL << addr->order; j++) {
			pte = ((addr->addr >> PAGE_SHIFT) + j) << PT_SHIFT;
			if (write)
				pte |= PT_WRITE;
			if (addr->proto != DRM_INTERCONNECT_SYSTEM)
				pte |= PT_DEVMEM;
			err = xa_err(xa_store(&vm->pt, first + i + j,
					      xa_mk_value(pte), GFP_ATOMIC));
			if (err)
				return err;
		}
	}

	return 0;
}

void gpusvm_mock_migrate(struct gpusvm_mock *vm, struct drm_gpusvm_range *range)
{
	if (!IS_ENABLED(CONFIG_DEVICE_PRIVATE) || !vm->dpagemap || vm->stay)
		return;

	drm_pagemap_populate_mm(vm->dpagemap, drm_gpusvm_range_start(range),
				drm_gpusvm_range_end(range), vm->gpusvm.mm, 0);
}

/* The fixture */

struct gpusvm_mock *gpusvm_mock_create(struct kunit *test, struct device *dev,
				       struct drm_device *drm)
{
	struct gpusvm_mock *mock;

	mock = kunit_kzalloc(test, sizeof(*mock), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, mock);

	mock->test = test;
	mutex_init(&mock->lock);
	xa_init(&mock->pt);
	spin_lock_init(&mock->garbage_lock);
	INIT_LIST_HEAD(&mock->garbage);
	spin_lock_init(&mock->bus_lock);
	INIT_LIST_HEAD(&mock->maps);
	mock->fail_step = -1;

	if (!dev) {
		dev = drm_kunit_helper_alloc_device(test);
		KUNIT_ASSERT_FALSE(test, IS_ERR(dev));
		drm = __drm_kunit_helper_alloc_drm_device(test, dev,
							  sizeof(*drm), 0, 0);
		KUNIT_ASSERT_FALSE(test, IS_ERR(drm));
	}
	mock->dev = dev;
	mock->drm = drm;

	kunit_activate_static_stub(test, drm_gpusvm_inject, gpusvm_mock_inject);
	kunit_activate_static_stub(test, drm_gpusvm_dma_map,
				   gpusvm_mock_dma_map);
	kunit_activate_static_stub(test, drm_gpusvm_dma_unmap,
				   gpusvm_mock_dma_unmap);

	return mock;
}

int gpusvm_mock_init_chunks(struct gpusvm_mock *mock, unsigned long start,
			    unsigned long end, unsigned long notifier_size,
			    const unsigned long *chunks, int num_chunks)
{
	int err;

	/* The driver need not zero it. */
	memset(&mock->gpusvm, 0x5a, sizeof(mock->gpusvm));
	err = drm_gpusvm_init(&mock->gpusvm, "mock", mock->drm, current->mm,
			      mock->devmem_owner, start, end - start,
			      notifier_size, &gpusvm_mock_ops, chunks,
			      num_chunks);
	if (!err)
		drm_gpusvm_driver_set_lock(&mock->gpusvm, &mock->lock);

	return err;
}

/* Mirrors @npages pages of the test's address space, from @start. */
void gpusvm_mock_init(struct gpusvm_mock *mock, unsigned long start,
		      unsigned long npages)
{
	KUNIT_ASSERT_EQ(mock->test,
			gpusvm_mock_init_chunks(mock, start,
						start + (npages << PAGE_SHIFT),
						GPUSVM_MOCK_SLOT * PAGE_SIZE,
						gpusvm_mock_chunks,
						ARRAY_SIZE(gpusvm_mock_chunks)),
			0);
}

/* Removes all ranges, and checks that none is mapped when nobody watches it. */
void gpusvm_mock_free(struct gpusvm_mock *mock)
{
	lockdep_assert_held(&mock->lock);

	mock->freeing = true;
	drm_gpusvm_free(&mock->gpusvm);
	mock->freeing = false;
}

/* Undoes gpusvm_mock_init(), and checks that nothing leaked. */
void gpusvm_mock_exit(struct gpusvm_mock *mock)
{
	struct kunit *test = mock->test;

	mutex_lock(&mock->lock);
	gpusvm_example_collect_garbage(mock);
	gpusvm_mock_zap_pt(mock, 0, ULONG_MAX);
	gpusvm_mock_free(mock);
	drm_gpusvm_fini(&mock->gpusvm);
	mutex_unlock(&mock->lock);

	KUNIT_EXPECT_EQ_MSG(test, atomic_read(&mock->ranges), 0,
			    "ranges leaked");
	KUNIT_EXPECT_TRUE_MSG(test, list_empty(&mock->maps),
			      "DMA mappings leaked");
	KUNIT_EXPECT_TRUE(test, xa_empty(&mock->pt));
	KUNIT_EXPECT_EQ_MSG(test, atomic_read(&mock->wrong), 0,
			    "a contract was violated");
	xa_destroy(&mock->pt);
}

/* Shortcuts */

struct drm_gpusvm_range *
gpusvm_mock_insert_ctx(struct gpusvm_mock *mock, unsigned long addr,
		       const struct drm_gpusvm_ctx *ctx)
{
	struct drm_gpusvm_range *range;

	mutex_lock(&mock->lock);
	range = drm_gpusvm_range_find_or_insert(&mock->gpusvm, addr, 0,
						ULONG_MAX, ctx);
	mutex_unlock(&mock->lock);

	return range;
}

struct drm_gpusvm_range *gpusvm_mock_insert(struct gpusvm_mock *mock,
					    unsigned long addr)
{
	const struct drm_gpusvm_ctx ctx = { .devmem_possible = true, };

	return gpusvm_mock_insert_ctx(mock, addr, &ctx);
}

/* gpusvm_mock_insert() that has to succeed. */
struct drm_gpusvm_range *gpusvm_mock_range(struct gpusvm_mock *mock,
					   unsigned long addr)
{
	struct drm_gpusvm_range *range = gpusvm_mock_insert(mock, addr);

	KUNIT_ASSERT_FALSE_MSG(mock->test, IS_ERR(range), "%pe", range);

	return range;
}

void gpusvm_mock_remove(struct drm_gpusvm_range *range)
{
	struct gpusvm_mock *mock = to_gpusvm_mock(range->gpusvm);

	mutex_lock(&mock->lock);
	spin_lock(&mock->garbage_lock);
	list_del_init(&to_gpusvm_mock_range(range)->garbage);
	spin_unlock(&mock->garbage_lock);
	gpusvm_mock_zap_pt(mock, drm_gpusvm_range_start(range),
			   drm_gpusvm_range_end(range));
	drm_gpusvm_range_remove(&mock->gpusvm, range);
	mutex_unlock(&mock->lock);
}

int gpusvm_mock_get_ctx(struct drm_gpusvm_range *range,
			const struct drm_gpusvm_ctx *ctx)
{
	struct gpusvm_mock *mock = to_gpusvm_mock(range->gpusvm);
	int err;

	mutex_lock(&mock->lock);
	err = drm_gpusvm_range_get_pages(&mock->gpusvm, range, ctx);
	mutex_unlock(&mock->lock);

	return err;
}

int gpusvm_mock_get(struct drm_gpusvm_range *range, bool read_only)
{
	const struct drm_gpusvm_ctx ctx = { .read_only = read_only, };

	return gpusvm_mock_get_ctx(range, &ctx);
}

/* gpusvm_mock_get() that allows pages of RAM and device pages in one range. */
int gpusvm_mock_get_mixed(struct drm_gpusvm_range *range, bool read_only)
{
	const struct drm_gpusvm_ctx ctx = {
		.read_only = read_only,
		.allow_mixed = true,
	};

	return gpusvm_mock_get_ctx(range, &ctx);
}

void gpusvm_mock_unmap(struct drm_gpusvm_range *range)
{
	const struct drm_gpusvm_ctx ctx = {};

	drm_gpusvm_range_unmap_pages(range->gpusvm, range, &ctx);
}

int gpusvm_mock_evict(struct drm_gpusvm_range *range)
{
	struct gpusvm_mock *mock = to_gpusvm_mock(range->gpusvm);
	int err;

	mutex_lock(&mock->lock);
	err = drm_gpusvm_range_evict(&mock->gpusvm, range);
	mutex_unlock(&mock->lock);

	return err;
}

bool gpusvm_mock_valid(struct drm_gpusvm_range *range)
{
	bool valid;

	drm_gpusvm_notifier_lock(range->gpusvm);
	valid = drm_gpusvm_range_pages_valid(range->gpusvm, range);
	drm_gpusvm_notifier_unlock(range->gpusvm);

	return valid;
}

/* Checks */

unsigned int gpusvm_mock_notifiers(struct gpusvm_mock *mock)
{
	return list_count_nodes(&mock->gpusvm.notifier_list);
}

unsigned int gpusvm_mock_num_maps(struct gpusvm_mock *mock)
{
	unsigned int n;

	spin_lock(&mock->bus_lock);
	n = list_count_nodes(&mock->maps);
	spin_unlock(&mock->bus_lock);

	return n;
}

/* The mapping at a bus address; a size of 0 if there is none. */
struct gpusvm_mock_mapping gpusvm_mock_find_map(struct gpusvm_mock *mock,
						dma_addr_t addr)
{
	struct gpusvm_mock_mapping *map, found = {};

	spin_lock(&mock->bus_lock);
	map = gpusvm_mock_lookup(mock, addr, true);
	if (map)
		found = *map;
	spin_unlock(&mock->bus_lock);

	return found;
}

/* The page at an address of the software device. */
static unsigned long gpusvm_mock_devmem_pfn(struct drm_pagemap *dpagemap,
					    dma_addr_t addr)
{
	struct pagemap_mock_dev *mdev =
		container_of(dpagemap, struct pagemap_mock_dev, dpagemap);

	return mdev->region->start_pfn + (addr >> PAGE_SHIFT);
}

/*
 * The process's pages, by a walk that changes nothing: as it does not fault,
 * hmm_range_fault() needs no notifier.
 */
static int gpusvm_mock_snapshot(struct gpusvm_mock *mock, unsigned long addr,
				unsigned long npages, unsigned long *pfns)
{
	struct mmu_interval_notifier dummy = { .mm = current->mm };
	struct hmm_range range = {
		.notifier = &dummy,
		.start = addr,
		.end = addr + (npages << PAGE_SHIFT),
		.hmm_pfns = pfns,
		.dev_private_owner = mock->devmem_owner,
	};
	int err;

	mmap_read_lock(current->mm);
	err = hmm_range_fault(&range);
	mmap_read_unlock(current->mm);

	return err;
}

/* The page behind page @j of entry @k, or NULL. */
static struct page *gpusvm_mock_reached(struct drm_gpusvm_range *range,
					unsigned long k, unsigned long j,
					bool read_only)
{
	struct gpusvm_mock *mock = to_gpusvm_mock(range->gpusvm);
	struct drm_pagemap_device_addr *addr = &range->dma_addr[k];
	unsigned int order = addr->order, dir = addr->dir;
	struct kunit *test = mock->test;
	struct gpusvm_mock_mapping map;

	KUNIT_EXPECT_EQ(test, dir,
			read_only ? DMA_TO_DEVICE : DMA_BIDIRECTIONAL);

	if (addr->proto != DRM_INTERCONNECT_SYSTEM)
		return range->dpagemap ?
			pfn_to_page(gpusvm_mock_devmem_pfn(range->dpagemap,
							   addr->addr) + j) :
			NULL;

	map = gpusvm_mock_find_map(mock, addr->addr);
	KUNIT_EXPECT_EQ(test, map.addr, addr->addr);
	KUNIT_EXPECT_EQ(test, map.size, PAGE_SIZE << order);
	KUNIT_EXPECT_EQ(test, map.dir, dir);

	return map.size ? map.page + j : NULL;
}

/*
 * The range is mapped, all of it and nothing else, and each of its addresses
 * takes the device to the page that the process has there.
 */
void gpusvm_mock_expect_mapped(struct drm_gpusvm_range *range, bool read_only)
{
	unsigned long npages = drm_gpusvm_range_size(range) >> PAGE_SHIFT;
	struct gpusvm_mock *mock = to_gpusvm_mock(range->gpusvm);
	unsigned long i, j, k = 0, n, devmem = 0, *pfns;
	unsigned long start = drm_gpusvm_range_start(range);
	struct kunit *test = mock->test;
	struct page *page, *want;
	bool is_devmem;

	KUNIT_EXPECT_TRUE(test, gpusvm_mock_valid(range));
	KUNIT_EXPECT_TRUE(test, range->flags.has_dma_mapping);
	pfns = kunit_kcalloc(test, npages, sizeof(*pfns), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, pfns);
	KUNIT_ASSERT_NOT_NULL(test, range->dma_addr);
	KUNIT_ASSERT_EQ(test, gpusvm_mock_snapshot(mock, start, npages, pfns),
			0);

	for (i = 0; i < npages; i += n, k++) {
		n = 1UL << range->dma_addr[k].order;
		KUNIT_ASSERT_LE(test, i + n, npages);
		for (j = 0; j < n; j++) {
			page = gpusvm_mock_reached(range, k, j, read_only);
			KUNIT_ASSERT_TRUE(test, pfns[i + j] & HMM_PFN_VALID);
			want = hmm_pfn_to_page(pfns[i + j]);
			KUNIT_EXPECT_PTR_EQ(test, page, want);
			is_devmem = drm_pagemap_page_is_devmem(want, mock->devmem_owner);
			KUNIT_EXPECT_EQ(test, is_devmem,
					range->dma_addr[k].proto !=
					DRM_INTERCONNECT_SYSTEM);
			devmem += is_devmem;
			if (!read_only)
				KUNIT_EXPECT_TRUE(test, pfns[i + j] &
						  HMM_PFN_WRITE);
		}
	}
	KUNIT_EXPECT_EQ(test, !!range->flags.has_devmem_pages, !!devmem);
	KUNIT_EXPECT_EQ(test, !!range->dpagemap, !!devmem);
	kunit_kfree(test, pfns);
}

void gpusvm_mock_expect_unmapped(struct drm_gpusvm_range *range)
{
	struct kunit *test = to_gpusvm_mock(range->gpusvm)->test;

	KUNIT_EXPECT_FALSE(test, gpusvm_mock_valid(range));
	KUNIT_EXPECT_FALSE(test, range->flags.has_dma_mapping);
	KUNIT_EXPECT_FALSE(test, range->flags.has_devmem_pages);
	KUNIT_EXPECT_NULL(test, range->dpagemap);
}

/*
 * The process has every translation that the GPU has, and the GPU may write
 * only where the process may.  Returns the number of translations.
 */
unsigned long gpusvm_mock_check_pt(struct gpusvm_mock *mock)
{
	unsigned long page, pfn, pte, n = 0;
	struct kunit *test = mock->test;
	struct gpusvm_mock_mapping map;
	dma_addr_t addr;
	void *entry;

	xa_for_each(&mock->pt, page, entry) {
		KUNIT_ASSERT_EQ(test, gpusvm_mock_snapshot(mock,
							   page << PAGE_SHIFT,
							   1, &pfn), 0);
		KUNIT_ASSERT_TRUE(test, pfn & HMM_PFN_VALID);
		pte = xa_to_value(entry);
		if (pte & PT_WRITE)
			KUNIT_EXPECT_TRUE(test, pfn & HMM_PFN_WRITE);
		addr = (dma_addr_t)(pte >> PT_SHIFT) << PAGE_SHIFT;
		pfn &= ~HMM_PFN_FLAGS;
		if (pte & PT_DEVMEM) {
			KUNIT_EXPECT_EQ(test, pfn,
					gpusvm_mock_devmem_pfn(mock->dpagemap,
							       addr));
		} else {
			map = gpusvm_mock_find_map(mock, addr);
			KUNIT_ASSERT_NE(test, map.size, 0);
			KUNIT_EXPECT_EQ(test, pfn, page_to_pfn(map.page) +
					((addr - map.addr) >> PAGE_SHIFT));
		}
		n++;
	}

	return n;
}

/* The process's memory */

/*
 * A VMA of @npages pages, @offset pages after an address that is aligned to
 * @align pages, with nothing mapped around it as far as the next such address.
 * The first call creates the address space.
 */
unsigned long gpusvm_mock_mmap(struct kunit *test, unsigned long align,
			       unsigned long offset, unsigned long npages,
			       unsigned long prot)
{
	unsigned long area, addr, len;

	len = (2 * align + offset + npages) << PAGE_SHIFT;
	area = kunit_vm_mmap(test, NULL, 0, len + align * PAGE_SIZE, PROT_NONE,
			     MAP_PRIVATE | MAP_ANONYMOUS, 0);
	KUNIT_ASSERT_NE(test, area, 0);
	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(area));
	KUNIT_ASSERT_EQ(test, vm_munmap(area, len + align * PAGE_SIZE), 0);

	addr = ALIGN(area, align * PAGE_SIZE) + offset * PAGE_SIZE;
	area = vm_mmap(NULL, addr, npages * PAGE_SIZE, prot,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0);
	KUNIT_ASSERT_EQ(test, area, addr);

	return addr;
}

/* Writes to each page. */
int gpusvm_mock_touch(unsigned long addr, unsigned long npages)
{
	unsigned long i;

	for (i = 0; i < npages; i++)
		if (put_user((u8)i, (u8 __user *)(addr + i * PAGE_SIZE)))
			return -EFAULT;

	return 0;
}

/* Changes the flags of a whole VMA. */
int gpusvm_mock_vm_flags(unsigned long addr, unsigned long set,
			 unsigned long clear)
{
	struct vm_area_struct *vma;

	mmap_write_lock(current->mm);
	vma = vma_lookup(current->mm, addr);
	if (vma)
		vm_flags_mod(vma, set, clear);
	mmap_write_unlock(current->mm);

	return vma ? 0 : -ENOENT;
}

/* Frees the pages, but not the addresses. */
void gpusvm_mock_discard(unsigned long addr, unsigned long npages)
{
	struct vm_area_struct *vma;

	mmap_read_lock(current->mm);
	vma = vma_lookup(current->mm, addr);
	if (vma)
		zap_page_range_single(vma, addr, npages << PAGE_SHIFT, NULL);
	mmap_read_unlock(current->mm);
}
