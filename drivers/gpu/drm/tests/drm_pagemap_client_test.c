// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Tests of DRM pagemap: a driver that was written for the layer of Linux 6.17,
 * with a struct dev_pagemap of its own.  It knows of no region and no flush.
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
#include <linux/ioport.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#define CLIENT_SIZE	SZ_2M
#define CLIENT_PAGES	64	/* of the pool that are used */

/* How long the driver takes to release an allocation. */
#define CLIENT_RELEASE_MS	30

/**
 * struct client - the driver
 * @dpagemap: What is under test.  Not zeroed.
 * @pgmap: The device pages.
 * @res: Their addresses.
 * @dev: The device.
 * @test: The test.
 * @memory: What is behind the first %CLIENT_PAGES pages.
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
 * @devmem: What is under test.
 * @client: The driver.
 * @released: How often it was released, counted when that is over.
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
	struct page *page = pfn_to_page(PHYS_PFN(client->res->start));
	struct client_bo *bo = client_bo(client, size);
	unsigned long i;

	for (i = 0; i < npages; i++)
		KUNIT_ASSERT_EQ(client->test, 0, put_user(i + 1, client_word(client, i)));
	KUNIT_ASSERT_EQ(client->test, 0, client_migrate(bo, npages));
	for (i = 0; i < npages; i++)
		KUNIT_EXPECT_EQ(client->test, page_count(page + i), 1);

	return bo;
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
 * Succeeds if the driver's callback has returned whenever eviction returns 0: it
 * frees what the callback uses then.
 */
static void client_evict_has_released(struct kunit *test)
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
static void client_evict_waits_for_release(struct kunit *test)
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

/*
 * Succeeds if memunmap_pages() waits for the releases that munmap() left behind,
 * after which the driver may be unloaded.
 */
static void client_unbind_waits_for_releases(struct kunit *test)
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
static void client_populates_all(struct kunit *test)
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
static void client_evict_after_failure(struct kunit *test)
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
	KUNIT_CASE(client_evict_has_released),
	KUNIT_CASE(client_evict_waits_for_release),
	KUNIT_CASE(client_unbind_waits_for_releases),
	KUNIT_CASE(client_populates_all),
	KUNIT_CASE(client_evict_after_failure),
	{}
};

static struct kunit_suite drm_pagemap_client_suite = {
	.name = "drm_pagemap_client",
	.test_cases = drm_pagemap_client_cases,
};

kunit_test_suite(drm_pagemap_client_suite);
