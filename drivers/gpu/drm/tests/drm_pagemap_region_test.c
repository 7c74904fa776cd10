// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * KUnit tests for DRM pagemap: regions, by the example of the documentation.
 */

#include "drm_pagemap_example.h"

#include <drm/drm_drv.h>
#include <drm/drm_kunit_helpers.h>
#include <drm/drm_print.h>

#include <kunit/device.h>
#include <kunit/resource.h>
#include <kunit/test.h>

#include <linux/debugfs.h>
#include <linux/dma-mapping.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#define REGION_PAGES	20	/* of the process */

KUNIT_DEFINE_ACTION_WRAPPER(region_vfree, vfree, const void *);

static const struct drm_driver region_driver = {};

static int region_init(struct kunit *test)
{
	struct pagemap_example *example;
	struct drm_device *drm;
	struct device *dev;
	void *vram;

	vram = vzalloc(PAGEMAP_EXAMPLE_SIZE);
	KUNIT_ASSERT_NOT_NULL(test, vram);
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, region_vfree, vram));

	dev = kunit_device_register(test, "pagemap-region");
	KUNIT_ASSERT_FALSE(test, IS_ERR(dev));
	KUNIT_ASSERT_EQ(test, 0, dma_coerce_mask_and_coherent(dev, DMA_BIT_MASK(64)));
	drm = __drm_kunit_helper_alloc_drm_device_with_driver(test, dev, sizeof(*example),
							      offsetof(struct pagemap_example,
								       drm),
							      &region_driver);
	KUNIT_ASSERT_FALSE(test, IS_ERR(drm));

	example = container_of(drm, struct pagemap_example, drm);
	example->vram = vram;
	spin_lock_init(&example->lock);
	KUNIT_ASSERT_EQ(test, 0, pagemap_example_bind(example));
	test->priv = example;

	return 0;
}

static unsigned long region_map(struct kunit *test)
{
	unsigned long i, addr;

	addr = kunit_vm_mmap(test, NULL, 0, REGION_PAGES * PAGE_SIZE,
			     PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, 0);
	KUNIT_ASSERT_NE(test, addr, 0);
	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(addr));
	for (i = 0; i < REGION_PAGES; i++)
		KUNIT_ASSERT_EQ(test, 0, put_user(addr + i,
						  (unsigned long __user *)(addr + i * PAGE_SIZE)));

	return addr;
}

static void region_check(struct kunit *test, unsigned long addr)
{
	unsigned long i, word;

	for (i = 0; i < REGION_PAGES; i++) {
		KUNIT_ASSERT_EQ(test, 0, get_user(word, (unsigned long __user *)
						  (addr + i * PAGE_SIZE)));
		KUNIT_EXPECT_EQ(test, word, addr + i);
	}
}

/* Succeeds if pages go to the region and come back, and all of it is free then. */
static void drm_pagemap_test_region_prefetch(struct kunit *test)
{
	struct pagemap_example *example = test->priv;
	unsigned long addr = region_map(test), end = addr + REGION_PAGES * PAGE_SIZE;

	KUNIT_EXPECT_EQ(test, 0, pagemap_example_prefetch(example, addr, addr + 3 * PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, 3, drm_pagemap_region_resident(example->region));
	KUNIT_EXPECT_EQ(test, 0, pagemap_example_prefetch(example, addr, end));
	KUNIT_EXPECT_EQ(test, REGION_PAGES, drm_pagemap_region_resident(example->region));
	KUNIT_EXPECT_EQ(test, REGION_PAGES,
			bitmap_weight(example->used, PAGEMAP_EXAMPLE_PAGES));

	region_check(test, addr);
	KUNIT_EXPECT_EQ(test, 0, drm_pagemap_region_resident(example->region));
	drm_pagemap_release_flush();
	KUNIT_EXPECT_TRUE(test, bitmap_empty(example->used, PAGEMAP_EXAMPLE_PAGES));
	KUNIT_EXPECT_EQ(test, REGION_PAGES,
			atomic64_read(&example->region->counters[DRM_PAGEMAP_PAGES_TO_DEVMEM]));
	KUNIT_EXPECT_EQ(test, REGION_PAGES,
			atomic64_read(&example->region->counters[DRM_PAGEMAP_PAGES_FAULTED]));
}

/* Succeeds if unplug brings all pages back and closes the region for good. */
static void drm_pagemap_test_region_unplug(struct kunit *test)
{
	struct pagemap_example *example = test->priv;
	unsigned long addr = region_map(test), end = addr + REGION_PAGES * PAGE_SIZE;

	KUNIT_EXPECT_EQ(test, 0, pagemap_example_prefetch(example, addr, end));
	pagemap_example_unbind(example);
	KUNIT_EXPECT_EQ(test, 0, drm_pagemap_region_resident(example->region));
	KUNIT_EXPECT_TRUE(test, bitmap_empty(example->used, PAGEMAP_EXAMPLE_PAGES));
	KUNIT_EXPECT_EQ(test, -ENODEV, pagemap_example_prefetch(example, addr, end));
	region_check(test, addr);
}

/* Succeeds if pages and their data survive a device that goes away by itself. */
static void drm_pagemap_test_region_unbind(struct kunit *test)
{
	struct pagemap_example *example = test->priv;
	unsigned long addr = region_map(test), end = addr + REGION_PAGES * PAGE_SIZE;

	KUNIT_EXPECT_EQ(test, 0, pagemap_example_prefetch(example, addr, end));
	kunit_device_unregister(test, example->drm.dev);
	region_check(test, addr);
}

/* Succeeds if bad arguments of a region are refused and leave nothing behind. */
static void drm_pagemap_test_region_bad_arguments(struct kunit *test)
{
	struct pagemap_example *example = test->priv;
	struct drm_pagemap dpagemap = { .dev = example->drm.dev };
	struct drm_pagemap_region *region;

	region = devm_drm_pagemap_region_add(&example->drm, &dpagemap, "bad", 0, example);
	KUNIT_EXPECT_EQ(test, PTR_ERR(region), -EINVAL);
	region = devm_drm_pagemap_region_add(&example->drm, &dpagemap, "bad",
					     PAGE_SIZE + 1, example);
	KUNIT_EXPECT_EQ(test, PTR_ERR(region), -EINVAL);
	region = devm_drm_pagemap_region_add(&example->drm, &dpagemap, "bad",
					     PAGE_SIZE, NULL);
	KUNIT_EXPECT_EQ(test, PTR_ERR(region), -EINVAL);

	region = devm_drm_pagemap_region_add(&example->drm, &example->dpagemap, "twice",
					     PAGE_SIZE, example);
	KUNIT_EXPECT_EQ(test, PTR_ERR(region), -EINVAL);
}

/*
 * Succeeds if a region that no address space has room for is refused, and the
 * memory can be given a region afterwards.
 */
static void drm_pagemap_test_region_without_room(struct kunit *test)
{
	struct pagemap_example *example = test->priv;
	struct drm_pagemap *dpagemap;
	struct drm_pagemap_region *region;

	dpagemap = kunit_kzalloc(test, sizeof(*dpagemap), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, dpagemap);
	dpagemap->dev = example->drm.dev;

	region = devm_drm_pagemap_region_add(&example->drm, dpagemap, "huge",
					     1ULL << 62, example);
	KUNIT_EXPECT_EQ(test, PTR_ERR(region), -ERANGE);

	region = devm_drm_pagemap_region_add(&example->drm, dpagemap, "small",
					     SZ_2M, example);
	KUNIT_ASSERT_FALSE(test, IS_ERR(region));
	KUNIT_EXPECT_EQ(test, region->npages, SZ_2M >> PAGE_SHIFT);
	KUNIT_EXPECT_EQ(test, drm_pagemap_region_resident(region), 0);

	kunit_device_unregister(test, example->drm.dev);
}

/*
 * Succeeds if a region of a DRM device without a debugfs directory makes no file
 * anywhere, in particular not at the top of debugfs.
 */
static void drm_pagemap_test_region_without_debugfs(struct kunit *test)
{
	struct pagemap_example *example = test->priv;
	struct dentry *root = example->drm.debugfs_root, *file;
	struct drm_pagemap_region *region;
	struct drm_pagemap *dpagemap;

	dpagemap = kunit_kzalloc(test, sizeof(*dpagemap), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, dpagemap);
	dpagemap->dev = example->drm.dev;

	example->drm.debugfs_root = NULL;
	region = devm_drm_pagemap_region_add(&example->drm, dpagemap, "nowhere", SZ_2M, example);
	example->drm.debugfs_root = root;
	KUNIT_ASSERT_FALSE(test, IS_ERR(region));
	KUNIT_EXPECT_NULL(test, region->debugfs);

	if (IS_ENABLED(CONFIG_DEBUG_FS)) {
		file = debugfs_lookup("pagemap-nowhere", NULL);
		KUNIT_EXPECT_NULL(test, file);
		dput(file);
	}
	kunit_device_unregister(test, example->drm.dev);
}

/*
 * Succeeds if memory whose region is gone can be given another one, which is found
 * in place of the first, as long as both exist.
 */
static void drm_pagemap_test_region_again(struct kunit *test)
{
	struct pagemap_example *example = test->priv;
	struct device *dev = example->drm.dev;
	struct drm_pagemap_region *region[2], *third;
	struct drm_pagemap *dpagemap;
	void *group;

	dpagemap = kunit_kzalloc(test, sizeof(*dpagemap), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, dpagemap);
	dpagemap->dev = dev;

	group = devres_open_group(dev, NULL, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, group);
	region[0] = devm_drm_pagemap_region_add(&example->drm, dpagemap, "again", SZ_2M, example);
	KUNIT_ASSERT_FALSE(test, IS_ERR(region[0]));
	devres_close_group(dev, group);
	devres_release_group(dev, group);

	region[1] = devm_drm_pagemap_region_add(&example->drm, dpagemap, "again", SZ_2M, example);
	KUNIT_ASSERT_FALSE(test, IS_ERR(region[1]));
	KUNIT_EXPECT_PTR_NE(test, region[0], region[1]);
	KUNIT_EXPECT_EQ(test, drm_pagemap_region_resident(region[0]), 0);
	third = devm_drm_pagemap_region_add(&example->drm, dpagemap, "again", SZ_2M, example);
	KUNIT_EXPECT_EQ(test, PTR_ERR(third), -EINVAL);

	kunit_device_unregister(test, dev);
}

static struct kunit_case drm_pagemap_region_cases[] = {
	KUNIT_CASE(drm_pagemap_test_region_prefetch),
	KUNIT_CASE(drm_pagemap_test_region_unplug),
	KUNIT_CASE(drm_pagemap_test_region_unbind),
	KUNIT_CASE(drm_pagemap_test_region_bad_arguments),
	KUNIT_CASE(drm_pagemap_test_region_without_room),
	KUNIT_CASE(drm_pagemap_test_region_without_debugfs),
	KUNIT_CASE(drm_pagemap_test_region_again),
	{}
};

static struct kunit_suite drm_pagemap_region_suite = {
	.name = "drm_pagemap_region",
	.init = region_init,
	.test_cases = drm_pagemap_region_cases,
};

kunit_test_suite(drm_pagemap_region_suite);
