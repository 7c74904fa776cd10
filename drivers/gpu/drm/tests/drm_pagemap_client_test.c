// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * KUnit tests for DRM pagemap: a driver that was written for the layer of Linux
 * 6.17, with a struct dev_pagemap of its own.  It knows of no region and no flush.
 */

#include <drm/drm_pagemap.h>

#include <kunit/device.h>
#include <kunit/test.h>

#include <linux/atomic.h>
#include <linux/bitmap.h>
#include <linux/delay.h>
#include <linux/device.h>
#include <linux/dma-direct.h>
#include <linux/dma-mapping.h>
#include <linux/highmem.h>
#include <linux/ioport.h>
#include <linux/memremap.h>
#include <linux/migrate.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/pagemap.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "../drm_pagemap_internal.h"

#define CLIENT_SIZE	SZ_2M
#define CLIENT_PAGES	64	/* of the pool that are used */
#define CLIENT_BY_HAND	16	/* the most that are moved without the layer */

/* Time the driver takes to release an allocation. */
#define CLIENT_RELEASE_MS	30

/**
 * struct client - the driver
 * @dpagemap: The object under test.  Not zeroed.
 * @pgmap: The device pages.
 * @res: Their addresses.
 * @dev: The device.
 * @test: The test.
 * @memory: Contents of the first %CLIENT_PAGES pages.
 * @addr: Memory of the process, of as many pages.
 */
struct client {
	struct drm_pagemap dpagemap;
	struct dev_pagemap pgmap;
	struct resource *res;
	struct device *dev;
	struct kunit *test;
	struct page *memory[CLIENT_PAGES];
	unsigned long addr;
};

/**
 * struct client_bo - an allocation: the first pages of the pool
 * @devmem: The object under test.
 * @client: The driver.
 * @released: Number of releases that are over.
 */
struct client_bo {
	struct drm_pagemap_devmem devmem;
	struct client *client;
	atomic_t released;
};

static void client_release(struct drm_pagemap_devmem *devmem)
{
	struct client_bo *bo = container_of(devmem, struct client_bo, devmem);

	msleep(CLIENT_RELEASE_MS);
	atomic_inc(&bo->released);
}

/* Gives all pages, whatever it is asked for. */
static int client_populate(struct drm_pagemap_devmem *devmem,
			   unsigned long npages, unsigned long *pfn)
{
	struct client_bo *bo = container_of(devmem, struct client_bo, devmem);
	unsigned long i;

	for (i = 0; i < devmem->size / PAGE_SIZE; i++)
		pfn[i] = PHYS_PFN(bo->client->res->start) + i;

	return 0;
}

static void client_copy(struct page *page, dma_addr_t addr, bool to_ram)
{
	struct client *client = container_of(page_pgmap(page), struct client,
					     pgmap);
	unsigned long i = page_to_pfn(page) - PHYS_PFN(client->res->start);
	void *mem = page_address(client->memory[i]);
	void *ram = phys_to_virt(dma_to_phys(client->dev, addr));

	memcpy(to_ram ? ram : mem, to_ram ? mem : ram, PAGE_SIZE);
}

static int client_copy_to_devmem(struct page **pages, dma_addr_t *addr,
				 unsigned long npages)
{
	unsigned long i;

	for (i = 0; i < npages; i++)
		client_copy(pages[i], addr[i], false);

	return 0;
}

static int client_copy_to_ram(struct page **pages, dma_addr_t *addr,
			      unsigned long npages)
{
	unsigned long i;

	for (i = 0; i < npages; i++)
		client_copy(pages[i], addr[i], true);

	return 0;
}

static const struct drm_pagemap_devmem_ops client_devmem_ops = {
	.devmem_release = client_release,
	.populate_devmem_pfn = client_populate,
	.copy_to_devmem = client_copy_to_devmem,
	.copy_to_ram = client_copy_to_ram,
};

static const struct drm_pagemap_ops client_ops = {};

KUNIT_DEFINE_ACTION_WRAPPER(client_free_page, __free_page, struct page *);

static void client_init_memory(struct kunit *test, struct client *client)
{
	unsigned int i;

	for (i = 0; i < CLIENT_PAGES; i++) {
		client->memory[i] = alloc_page(GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, client->memory[i]);
		KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, client_free_page,
								   client->memory[i]));
	}
}

/* Binds the driver.  Its struct is not zeroed. */
static struct client *client_bind(struct kunit *test)
{
	struct client *client = kunit_kmalloc(test, sizeof(*client), GFP_KERNEL);
	void *addr;

	KUNIT_ASSERT_NOT_NULL(test, client);
	memset(client, 0xa5, sizeof(*client));
	client->test = test;
	client_init_memory(test, client);
	client->dev = kunit_device_register(test, "pagemap-client");
	KUNIT_ASSERT_FALSE(test, IS_ERR(client->dev));
	KUNIT_ASSERT_EQ(test, 0, dma_coerce_mask_and_coherent(client->dev,
							      DMA_BIT_MASK(64)));
	client->dpagemap.ops = &client_ops;
	client->dpagemap.dev = client->dev;

	client->res = request_free_mem_region(&iomem_resource, CLIENT_SIZE,
					      "pagemap-client");
	KUNIT_ASSERT_FALSE(test, IS_ERR(client->res));
	memset(&client->pgmap, 0, sizeof(client->pgmap));
	client->pgmap.type = MEMORY_DEVICE_PRIVATE;
	client->pgmap.range.start = client->res->start;
	client->pgmap.range.end = client->res->start + CLIENT_SIZE - 1;
	client->pgmap.nr_range = 1;
	client->pgmap.ops = drm_pagemap_pagemap_ops_get();
	client->pgmap.owner = client;
	addr = memremap_pages(&client->pgmap, NUMA_NO_NODE);
	KUNIT_ASSERT_FALSE(test, IS_ERR(addr));

	client->addr = kunit_vm_mmap(test, NULL, 0, CLIENT_PAGES * PAGE_SIZE,
				     PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, 0);
	KUNIT_ASSERT_NE(test, client->addr, 0);
	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(client->addr));

	return client;
}

/* Nothing of the driver is left when this returns. */
static void client_unbind(struct client *client)
{
	memunmap_pages(&client->pgmap);
	release_mem_region(client->res->start, resource_size(client->res));
}

static u64 __user *client_word(struct client *client, unsigned long page)
{
	return (u64 __user *)(client->addr + page * PAGE_SIZE);
}

static struct client_bo *client_bo(struct client *client, unsigned long npages)
{
	struct client_bo *bo = kunit_kmalloc(client->test, sizeof(*bo), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(client->test, bo);
	bo->client = client;
	atomic_set(&bo->released, 0);
	drm_pagemap_devmem_init(&bo->devmem, client->dev, current->mm,
				&client_devmem_ops, &client->dpagemap,
				npages << PAGE_SHIFT);

	return bo;
}

static void client_fill(struct client *client, unsigned long npages)
{
	unsigned long i;

	for (i = 0; i < npages; i++)
		KUNIT_ASSERT_EQ(client->test, 0, put_user(i + 1, client_word(client, i)));
}

/* References of @npages device pages from @first on. */
static void client_expect_used(struct client *client, unsigned long first,
			       unsigned long npages, int count)
{
	struct page *page = pfn_to_page(PHYS_PFN(client->res->start) + first);
	unsigned long i;

	for (i = 0; i < npages; i++)
		KUNIT_EXPECT_EQ(client->test, page_count(page + i), count);
}

static void client_check(struct client *client, unsigned long npages)
{
	unsigned long i;
	u64 word;

	for (i = 0; i < npages; i++) {
		KUNIT_ASSERT_EQ(client->test, 0, get_user(word, client_word(client, i)));
		KUNIT_EXPECT_EQ(client->test, word, i + 1);
	}
}

/*
 * Move pages to the device without the layer, as a driver does that only has
 * migrate_vma_*(): what the layer does with device pages is tested on its own.
 */
static int client_move_by_hand(struct client_bo *bo, unsigned long npages,
			       struct drm_pagemap_zdd *zdd)
{
	unsigned long src[CLIENT_BY_HAND], dst[CLIENT_BY_HAND];
	struct client *client = bo->client;
	struct migrate_vma migrate = {
		.src = src,
		.dst = dst,
		.start = client->addr,
		.end = client->addr + npages * PAGE_SIZE,
		.pgmap_owner = client,
		.flags = MIGRATE_VMA_SELECT_SYSTEM,
	};
	struct page *page = pfn_to_page(PHYS_PFN(client->res->start));
	unsigned long i;
	int err;

	migrate.vma = vma_lookup(current->mm, client->addr);
	if (!migrate.vma)
		return -ENOENT;

	err = migrate_vma_setup(&migrate);
	if (err)
		return err;

	if (migrate.cpages != npages) {
		migrate_vma_finalize(&migrate);
		return -EBUSY;
	}

	zdd->pgoff = linear_page_index(migrate.vma, client->addr);
	zdd->npages = npages;
	drm_pagemap_zdd_get_many(zdd, npages);
	bo->devmem.taken = true;
	for (i = 0; i < npages; i++, page++) {
		copy_highpage(client->memory[i], migrate_pfn_to_page(src[i]));
		page->zone_device_data = zdd;
		zone_device_page_init(page);
		dst[i] = migrate_pfn(page_to_pfn(page));
	}
	migrate_vma_pages(&migrate);
	migrate_vma_finalize(&migrate);

	return 0;
}

static struct client_bo *client_place(struct client *client, unsigned long npages)
{
	struct kunit *test = client->test;
	struct client_bo *bo = client_bo(client, npages);
	struct drm_pagemap_zdd *zdd;
	int err;

	KUNIT_ASSERT_LE(test, npages, CLIENT_BY_HAND);
	client_fill(client, npages);

	zdd = drm_pagemap_zdd_create(&bo->devmem, client);
	KUNIT_ASSERT_NOT_NULL(test, zdd);
	percpu_ref_get(&client->pgmap.ref);
	zdd->pgmap = &client->pgmap;
	zdd->mm = current->mm;

	mmap_read_lock(current->mm);
	err = client_move_by_hand(bo, npages, zdd);
	mmap_read_unlock(current->mm);
	if (err)
		drm_pagemap_zdd_disarm(zdd);
	else
		drm_pagemap_zdd_put(zdd);
	KUNIT_ASSERT_EQ(test, err, 0);

	client_expect_used(client, 0, npages, 1);

	return bo;
}

/* Succeeds if a CPU fault brings back the whole allocation, with its data. */
static void drm_pagemap_test_client_fault(struct kunit *test)
{
	struct client *client = client_bind(test);
	struct client_bo *bo = client_place(client, 8);
	u64 word;

	KUNIT_EXPECT_EQ(test, 0, get_user(word, client_word(client, 5)));
	KUNIT_EXPECT_EQ(test, word, 6);
	client_expect_used(client, 0, 8, 0);
	client_check(client, 8);
	drm_pagemap_release_flush();
	KUNIT_EXPECT_EQ(test, atomic_read(&bo->released), 1);
	client_unbind(client);
}

/* Succeeds if a CPU fault brings back the window around it and no more. */
static void drm_pagemap_test_client_fault_window(struct kunit *test)
{
	struct client *client = client_bind(test);
	struct client_bo *bo = client_place(client, 8);
	u64 word;

	bo->devmem.fault_window = 2 * PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, 0, get_user(word, client_word(client, 5)));
	KUNIT_EXPECT_EQ(test, word, 6);
	client_expect_used(client, 0, 4, 1);
	client_expect_used(client, 4, 2, 0);
	client_expect_used(client, 6, 2, 1);
	client_check(client, 8);
	client_expect_used(client, 0, 8, 0);
	drm_pagemap_release_flush();
	KUNIT_EXPECT_EQ(test, atomic_read(&bo->released), 1);
	client_unbind(client);
}

/* Succeeds if eviction brings back all pages and has released the allocation. */
static void drm_pagemap_test_client_evict(struct kunit *test)
{
	struct client *client = client_bind(test);
	struct client_bo *bo = client_place(client, CLIENT_BY_HAND);

	KUNIT_EXPECT_EQ(test, 0, drm_pagemap_evict_to_ram(&bo->devmem));
	KUNIT_EXPECT_EQ(test, atomic_read(&bo->released), 1);
	client_expect_used(client, 0, CLIENT_BY_HAND, 0);
	client_check(client, CLIENT_BY_HAND);
	client_unbind(client);
}

/* Succeeds if an allocation without pages, or without callbacks, is refused. */
static void drm_pagemap_test_client_evict_unused(struct kunit *test)
{
	struct drm_pagemap_devmem_ops ops = client_devmem_ops;
	struct client *client = client_bind(test);
	struct client_bo *bo = client_bo(client, 8);

	KUNIT_EXPECT_EQ(test, -EBUSY, drm_pagemap_evict_to_ram(&bo->devmem));
	ops.copy_to_ram = NULL;
	bo->devmem.ops = &ops;
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP, drm_pagemap_evict_to_ram(&bo->devmem));
	KUNIT_EXPECT_EQ(test, atomic_read(&bo->released), 0);
	client_unbind(client);
}

static int client_migrate(struct client_bo *bo, unsigned long npages)
{
	struct client *client = bo->client;
	int err;

	mmap_read_lock(current->mm);
	err = drm_pagemap_migrate_to_devmem(&bo->devmem, current->mm, client->addr,
					    client->addr + npages * PAGE_SIZE,
					    0, client);
	mmap_read_unlock(current->mm);

	return err;
}

/* The first pages to an allocation that may be larger. */
static struct client_bo *client_to_device(struct client *client,
					  unsigned long npages, unsigned long size)
{
	struct client_bo *bo = client_bo(client, size);

	client_fill(client, npages);
	KUNIT_ASSERT_EQ(client->test, 0, client_migrate(bo, npages));
	client_expect_used(client, 0, npages, 1);

	return bo;
}

/*
 * Succeeds if the driver's callback has returned whenever eviction returns 0: it
 * frees what the callback uses then.
 */
static void drm_pagemap_test_client_evict_has_released(struct kunit *test)
{
	struct client *client = client_bind(test);
	struct client_bo *bo;
	unsigned int round;

	for (round = 0; round < 20; round++) {
		bo = client_to_device(client, 8, 8);
		KUNIT_EXPECT_EQ(test, 0, drm_pagemap_evict_to_ram(&bo->devmem));
		KUNIT_EXPECT_EQ_MSG(test, atomic_read(&bo->released), 1,
				    "round %u", round);
		client_check(client, 8);
	}
	client_unbind(client);
}

/*
 * Succeeds if eviction waits for the callback also if another thread has freed
 * the last page and the callback is due or running already.
 */
static void drm_pagemap_test_client_evict_waits_for_release(struct kunit *test)
{
	struct client *client = client_bind(test);
	struct client_bo *bo;
	unsigned int round;

	for (round = 0; round < 10; round++) {
		bo = client_to_device(client, 8, 8);
		KUNIT_ASSERT_EQ(test, client->addr,
				vm_mmap(NULL, client->addr, CLIENT_PAGES * PAGE_SIZE,
					PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0));
		if (round % 2)
			msleep(CLIENT_RELEASE_MS / 3);
		KUNIT_EXPECT_EQ(test, 0, drm_pagemap_evict_to_ram(&bo->devmem));
		KUNIT_EXPECT_EQ_MSG(test, atomic_read(&bo->released), 1,
				    "round %u", round);
	}
	client_unbind(client);
}

/* Succeeds if it waits also for that of an allocation to which no page moved. */
static void drm_pagemap_test_client_unbind_waits_for_unused(struct kunit *test)
{
	struct client *client = client_bind(test);
	struct client_bo *bo = client_bo(client, 8);
	struct drm_pagemap_migration mig = {
		.dpagemap = &client->dpagemap,
		.devmem = &bo->devmem,
		.mm = current->mm,
		.start = client->addr,
		.end = client->addr + PAGE_SIZE,
		.pgmap_owner = client,
		.flags = DRM_PAGEMAP_MIGRATE_PARTIAL,
	};
	struct page *page;

	client_fill(client, 1);
	KUNIT_ASSERT_EQ(test, 1, pin_user_pages_unlocked(client->addr, 1, &page,
							 FOLL_WRITE));
	mmap_read_lock(current->mm);
	KUNIT_EXPECT_EQ(test, 0, drm_pagemap_migrate(&mig));
	mmap_read_unlock(current->mm);
	unpin_user_page(page);
	KUNIT_EXPECT_EQ(test, mig.moved, 0);
	KUNIT_EXPECT_EQ(test, mig.left, 1);
	client_unbind(client);
	KUNIT_EXPECT_EQ(test, atomic_read(&bo->released), 1);
}

/*
 * Succeeds if memunmap_pages() waits for the releases that munmap() left behind,
 * after which the driver may be unloaded.
 */
static void drm_pagemap_test_client_unbind_waits_for_releases(struct kunit *test)
{
	struct client *client;
	struct client_bo *bo;
	unsigned int round;

	for (round = 0; round < 5; round++) {
		client = client_bind(test);
		bo = client_to_device(client, 8, 8);
		KUNIT_EXPECT_EQ(test, 0, vm_munmap(client->addr, CLIENT_PAGES * PAGE_SIZE));
		client_unbind(client);
		KUNIT_EXPECT_EQ_MSG(test, atomic_read(&bo->released), 1,
				    "round %u", round);
		kunit_device_unregister(test, client->dev);
	}
}

/*
 * Succeeds if a driver that gives the pfns of its whole allocation, however few
 * it is asked for, overwrites nothing.
 */
static void drm_pagemap_test_client_populates_all(struct kunit *test)
{
	struct client *client = client_bind(test);
	struct client_bo *bo;
	unsigned long n;

	for (n = 1; n < 8; n++) {
		bo = client_to_device(client, n, CLIENT_PAGES);
		client_check(client, 1);
		KUNIT_EXPECT_EQ(test, 0, drm_pagemap_evict_to_ram(&bo->devmem));
		client_check(client, n);
		KUNIT_EXPECT_EQ(test, atomic_read(&bo->released), 1);
	}
	client_unbind(client);
}

/* Succeeds if an allocation whose migration failed is -EBUSY at once. */
static void drm_pagemap_test_client_evict_after_failure(struct kunit *test)
{
	struct client *client = client_bind(test);
	struct client_bo *bo, *other;
	unsigned long start;

	other = client_to_device(client, 4, 4);
	bo = client_bo(client, 8);
	KUNIT_EXPECT_EQ(test, -EBUSY, client_migrate(bo, 8));
	start = jiffies;
	KUNIT_EXPECT_EQ(test, -EBUSY, drm_pagemap_evict_to_ram(&bo->devmem));
	KUNIT_EXPECT_LT(test, jiffies - start, HZ / 2);
	KUNIT_EXPECT_EQ(test, atomic_read(&bo->released), 0);

	KUNIT_EXPECT_EQ(test, 0, drm_pagemap_evict_to_ram(&other->devmem));
	client_check(client, 4);
	client_unbind(client);
}

static struct kunit_case drm_pagemap_client_cases[] = {
	KUNIT_CASE(drm_pagemap_test_client_fault),
	KUNIT_CASE(drm_pagemap_test_client_fault_window),
	KUNIT_CASE(drm_pagemap_test_client_evict),
	KUNIT_CASE(drm_pagemap_test_client_evict_unused),
	KUNIT_CASE(drm_pagemap_test_client_evict_has_released),
	KUNIT_CASE(drm_pagemap_test_client_evict_waits_for_release),
	KUNIT_CASE(drm_pagemap_test_client_unbind_waits_for_releases),
	KUNIT_CASE(drm_pagemap_test_client_unbind_waits_for_unused),
	KUNIT_CASE(drm_pagemap_test_client_populates_all),
	KUNIT_CASE(drm_pagemap_test_client_evict_after_failure),
	{}
};

static struct kunit_suite drm_pagemap_client_suite = {
	.name = "drm_pagemap_client",
	.test_cases = drm_pagemap_client_cases,
};

kunit_test_suite(drm_pagemap_client_suite);
