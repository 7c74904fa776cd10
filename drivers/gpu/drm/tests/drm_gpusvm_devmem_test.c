// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Tests of GPU SVM with device pages, huge pages and several threads.
 */

#include "drm_gpusvm_mock.h"
#include "drm_pagemap_mock.h"

#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/huge_mm.h>
#include <linux/jiffies.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/mmap_lock.h>
#include <linux/mman.h>
#include <linux/mmu_notifier.h>
#include <linux/pfn_t.h>
#include <linux/prandom.h>
#include <linux/rwsem.h>
#include <linux/sched/mm.h>

#define SEED	PAGEMAP_MOCK_SEED
#define CHUNK	GPUSVM_MOCK_CHUNK

/* Cases run one after the other; test->priv belongs to the software device. */
static struct gpusvm_mock *devmem_vm;
/* A second address space of the same process, in some cases. */
static struct gpusvm_mock *devmem_vm2;

static unsigned long pages(unsigned long npages)
{
	return npages << PAGE_SHIFT;
}

static struct pagemap_mock_dev *dev(struct kunit *test, unsigned int i)
{
	struct pagemap_mock *mock = test->priv;

	if (i == mock->ndevs)
		pagemap_mock_add_dev(mock, "pagemap-mock-1");

	return &mock->dev[i];
}

static int devmem_init(struct kunit *test, int (*init)(struct kunit *test))
{
	struct pagemap_mock_dev *mdev;
	struct pagemap_mock *mock;
	int err;

	devmem_vm = NULL;
	devmem_vm2 = NULL;
	err = init(test);
	if (err)
		return err;

	mock = test->priv;
	mdev = pagemap_mock_dev0(test);
	devmem_vm = gpusvm_mock_create(test, mdev->dev, mdev->drm);
	devmem_vm->devmem_owner = &mock->owner;

	return 0;
}

static int drm_gpusvm_devmem_init(struct kunit *test)
{
	return devmem_init(test, pagemap_mock_init);
}

/* The first device has memory that the CPU accesses in place. */
static int drm_gpusvm_coherent_init(struct kunit *test)
{
	return devmem_init(test, pagemap_mock_init_coherent);
}

static void drm_gpusvm_devmem_exit(struct kunit *test)
{
	if (devmem_vm2 && devmem_vm2->gpusvm.mm)
		gpusvm_mock_exit(devmem_vm2);
	if (devmem_vm && devmem_vm->gpusvm.mm)
		gpusvm_mock_exit(devmem_vm);
	devmem_vm2 = NULL;
	devmem_vm = NULL;
	pagemap_mock_exit(test);
}

/* A mapping of @npages pages that the driver mirrors. */
static unsigned long setup(struct kunit *test, unsigned long npages)
{
	unsigned long addr = pagemap_mock_map(test, npages);

	gpusvm_mock_init(devmem_vm, ALIGN_DOWN(addr, pages(GPUSVM_MOCK_SLOT)),
			 3 * GPUSVM_MOCK_SLOT + npages);
	/* The destination of GPU faults. */
	devmem_vm->dpagemap = &pagemap_mock_dev0(test)->dpagemap;

	return addr;
}

/* setup(), with all pages written and moved to a device. */
static unsigned long setup_on_dev(struct kunit *test, unsigned int i,
				  unsigned long npages)
{
	unsigned long addr = setup(test, npages);

	KUNIT_ASSERT_EQ(test, pagemap_mock_write(addr, npages, SEED), 0);
	pagemap_mock_to_dev(dev(test, i), addr, npages, 0);

	return addr;
}

/*
 * Device pages that the process may write, but whose entries say it may not: as
 * after fork(), with the other process gone, or after mprotect().
 */
static unsigned long setup_read_only_on_dev(struct kunit *test,
					    unsigned long npages)
{
	unsigned long addr = setup(test, npages);

	KUNIT_ASSERT_EQ(test, gpusvm_mock_vm_flags(addr, 0, VM_WRITE), 0);
	pagemap_mock_to_dev(dev(test, 0), addr, npages, 0);
	KUNIT_ASSERT_EQ(test, gpusvm_mock_vm_flags(addr, VM_WRITE, 0), 0);
	KUNIT_ASSERT_EQ(test, pagemap_mock_count(test, addr, npages,
						 PAGEMAP_MOCK_DEV0), npages);

	return addr;
}

/* A few pages, each of them nowhere, in RAM, on one of two devices, or zero. */
#define MAX_PATTERN	8

struct pattern {
	struct drm_gpusvm_range *range;
	unsigned long npages;
	u8 kind[MAX_PATTERN];
	unsigned int num[PAGEMAP_MOCK_ZERO + 1];	/* pages of each kind */
};

static bool has_contents(u8 kind)
{
	return kind != PAGEMAP_MOCK_NONE && kind != PAGEMAP_MOCK_ZERO;
}

static void place_page(struct kunit *test, unsigned long addr, u8 kind)
{
	if (kind == PAGEMAP_MOCK_ZERO)
		KUNIT_ASSERT_EQ(test, pagemap_mock_touch(addr), 0);
	if (!has_contents(kind))
		return;

	KUNIT_ASSERT_EQ(test, pagemap_mock_write(addr, 1, SEED), 0);
	if (kind != PAGEMAP_MOCK_RAM)
		pagemap_mock_to_dev(dev(test, kind - PAGEMAP_MOCK_DEV0), addr,
				    1, 0);
}

/* Brings the pages into place. */
static void place_pattern(struct kunit *test, unsigned long addr,
			  struct pattern *p)
{
	unsigned int i;

	memset(p->num, 0, sizeof(p->num));
	for (i = 0; i < p->npages; i++) {
		p->num[p->kind[i]]++;
		place_page(test, addr + pages(i), p->kind[i]);
	}

	p->range = gpusvm_mock_range(devmem_vm, addr);
	KUNIT_ASSERT_EQ(test, drm_gpusvm_range_size(p->range),
			pages(p->npages));
}

/* Four pages, in the places that the digits of @number say */
static struct pattern setup_pattern(struct kunit *test, unsigned long addr,
				    unsigned int number)
{
	struct pattern p = { .npages = 4 };
	unsigned int i;

	for (i = 0; i < p.npages; i++, number /= 4)
		p.kind[i] = number % 4;
	place_pattern(test, addr, &p);

	return p;
}

static unsigned long count_devmem(struct kunit *test, const struct pattern *p)
{
	unsigned long addr = drm_gpusvm_range_start(p->range);

	return pagemap_mock_count(test, addr, p->npages, PAGEMAP_MOCK_DEV0) +
	       pagemap_mock_count(test, addr, p->npages, PAGEMAP_MOCK_DEV1);
}

/* Checks the contents, and clears the place for the next pattern. */
static void finish_pattern(struct kunit *test, const struct pattern *p)
{
	unsigned long addr = drm_gpusvm_range_start(p->range);
	unsigned int i;

	for (i = 0; i < p->npages; i++) {
		if (has_contents(p->kind[i]))
			KUNIT_EXPECT_EQ(test, 0,
					pagemap_mock_read(addr + pages(i), 1,
							  SEED));
		else
			KUNIT_EXPECT_EQ(test, 0,
					pagemap_mock_read_zero(addr + pages(i),
							       1));
	}
	gpusvm_mock_remove(p->range);
	gpusvm_mock_discard(addr, p->npages);
}

static const unsigned int digit_params[] = { 0, 1, 2, 3 };

static void digit_desc(const unsigned int *p, char *desc)
{
	static const char * const names[] = { "none", "RAM", "dev0", "dev1" };

	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "last page %s", names[*p]);
}

KUNIT_ARRAY_PARAM(digit, digit_params, digit_desc);

/* The range cannot be mapped as it is, but can be evicted. */
static void expect_refused(struct kunit *test, struct drm_gpusvm_range *range,
			   bool mixed)
{
	unsigned long addr = drm_gpusvm_range_start(range);
	unsigned long npages = drm_gpusvm_range_size(range) >> PAGE_SHIFT;

	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP,
			mixed ? gpusvm_mock_get_mixed(range, false) :
				gpusvm_mock_get(range, false));
	gpusvm_mock_expect_unmapped(range);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_num_maps(devmem_vm), 0);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_evict(range), 0);
	KUNIT_EXPECT_EQ(test, npages, pagemap_mock_count(test, addr, npages,
							 PAGEMAP_MOCK_RAM));
}

/* Whether the pages cannot be mapped without being moved first */
static bool is_refused(const struct pattern *p, bool mixed)
{
	unsigned int dev0 = p->num[PAGEMAP_MOCK_DEV0];
	unsigned int dev1 = p->num[PAGEMAP_MOCK_DEV1];

	if (mixed)
		return dev0 && dev1;
	/* A page that is missing brings all of them to RAM; the zero page is RAM. */
	if (p->num[PAGEMAP_MOCK_NONE])
		return false;

	return dev0 + dev1 && dev0 != p->npages && dev1 != p->npages;
}

/* Whether device pages stay where they are when they are mapped */
static bool stays(const struct pattern *p, bool mixed)
{
	return mixed || p->num[PAGEMAP_MOCK_DEV0] == p->npages ||
	       p->num[PAGEMAP_MOCK_DEV1] == p->npages;
}

static void map_pattern(struct kunit *test, const struct pattern *p, bool mixed)
{
	const struct drm_gpusvm_ctx ctx = { .allow_mixed = mixed, };
	struct drm_gpusvm_range *range = p->range;
	unsigned long devmem = count_devmem(test, p);

	if (is_refused(p, mixed)) {
		/* Missing pages are populated, and nothing moves. */
		KUNIT_EXPECT_EQ(test, gpusvm_mock_get_ctx(range, &ctx),
				-EOPNOTSUPP);
		KUNIT_EXPECT_EQ(test, count_devmem(test, p), devmem);
		expect_refused(test, range, mixed);
		devmem = 0;
	}
	if (!stays(p, mixed))
		devmem = 0;

	KUNIT_EXPECT_EQ(test, gpusvm_mock_get_ctx(range, &ctx), 0);
	gpusvm_mock_expect_mapped(range, false);
	KUNIT_EXPECT_EQ(test, count_devmem(test, p), devmem);
	KUNIT_EXPECT_EQ(test, !!range->flags.has_devmem_pages, !!devmem);
}

/*
 * Succeeds if every pattern is mapped, except those with memory of both
 * devices, which take an eviction.
 */
static void drm_gpusvm_test_pattern_mixed(struct kunit *test)
{
	unsigned int first = *(const unsigned int *)test->param_value * 64, p;
	unsigned long addr = setup(test, 4);
	struct pattern pattern;

	dev(test, 1);
	for (p = first; p < first + 64; p++) {
		pattern = setup_pattern(test, addr, p);
		map_pattern(test, &pattern, true);
		finish_pattern(test, &pattern);
	}
}

/*
 * Succeeds if without allow_mixed, a pattern is mapped if all of it is in RAM
 * or on one device, a missing page brings all of it to RAM, and anything else
 * takes an eviction.
 */
static void drm_gpusvm_test_pattern_get(struct kunit *test)
{
	unsigned int first = *(const unsigned int *)test->param_value * 64, p;
	unsigned long addr = setup(test, 4);
	struct pattern pattern;

	dev(test, 1);
	for (p = first; p < first + 64; p++) {
		pattern = setup_pattern(test, addr, p);
		map_pattern(test, &pattern, false);
		finish_pattern(test, &pattern);
	}
}

#define NWINDOWS	6561	/* 3^MAX_PATTERN */
#define NSAMPLES	300

/* On kernels that check every access, fewer of them */
#define STRIDE	(IS_ENABLED(CONFIG_KASAN) || IS_ENABLED(CONFIG_KCSAN) ? 23 : 1)

/* For a window that is one range */
static void map_window(struct kunit *test, unsigned long addr,
		       struct pattern *p)
{
	place_pattern(test, addr, p);
	map_pattern(test, p, *(const bool *)test->param_value);
	finish_pattern(test, p);
}

/*
 * Succeeds if the same is true of ranges of 8 pages, of which each may be
 * nowhere, in RAM or on a device, in every 7th combination; and of random ones
 * with the zero page and pages of a second device.
 */
static void drm_gpusvm_test_pattern_window(struct kunit *test)
{
	static const unsigned long chunks[] = { 8 * PAGE_SIZE, PAGE_SIZE };
	unsigned long addr = pagemap_mock_map(test, MAX_PATTERN);
	unsigned long slot = pages(GPUSVM_MOCK_SLOT);
	struct pattern p = { .npages = MAX_PATTERN };
	unsigned int i, k, rest;
	struct rnd_state rnd;

	KUNIT_ASSERT_EQ(test, 0,
			gpusvm_mock_init_chunks(devmem_vm,
						ALIGN_DOWN(addr, slot),
						ALIGN_DOWN(addr, slot) + slot,
						slot, chunks, ARRAY_SIZE(chunks)));
	dev(test, 1);
	for (i = 0; i < NWINDOWS; i += 7 * STRIDE) {
		for (k = 0, rest = i; k < MAX_PATTERN; k++, rest /= 3)
			p.kind[k] = rest % 3;
		map_window(test, addr, &p);
	}

	kunit_info(test, "random windows have the seed 0x%x\n", SEED);
	prandom_seed_state(&rnd, SEED);
	for (i = 0; i < NSAMPLES; i += STRIDE) {
		for (k = 0; k < MAX_PATTERN; k++) {
			p.kind[k] = prandom_u32_state(&rnd) % 5;
			if (p.kind[k] > PAGEMAP_MOCK_DEV1)
				p.kind[k] = PAGEMAP_MOCK_ZERO;
		}
		map_window(test, addr, &p);
	}
}

/*
 * Succeeds if a mixed mapping is not taken for device memory by a caller
 * without allow_mixed, and the GPU is told before.
 */
static void drm_gpusvm_test_mixed_then_not(struct kunit *test)
{
	unsigned long addr = setup_on_dev(test, 0, CHUNK);
	struct drm_gpusvm_range *range = gpusvm_mock_range(devmem_vm, addr);

	KUNIT_EXPECT_EQ(test, gpusvm_mock_get_mixed(range, false), 0);
	devmem_vm->invalidations = 0;
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), 0);
	KUNIT_EXPECT_EQ(test, devmem_vm->invalidations, 0);

	gpusvm_mock_discard(addr + pages(3), 1);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get_mixed(range, false), 0);
	gpusvm_mock_expect_mapped(range, false);
	KUNIT_EXPECT_TRUE(test, range->flags.has_devmem_pages);
	devmem_vm->invalidations = 0;
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get_mixed(range, false), 0);
	KUNIT_EXPECT_EQ(test, devmem_vm->invalidations, 0);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), -EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, devmem_vm->invalidations, 1);
	gpusvm_mock_expect_unmapped(range);
	pagemap_mock_expect_resident(test, dev(test, 0), CHUNK - 1);
}

/*
 * Succeeds if device pages that come back because of a hole are not taken for
 * holes themselves, which would involve the userfaultfd.
 */
static void drm_gpusvm_test_hole_beside_uffd(struct kunit *test)
{
	unsigned long addr = setup_on_dev(test, 0, CHUNK);
	struct drm_gpusvm_range *range = gpusvm_mock_range(devmem_vm, addr);
	unsigned long half = pages(CHUNK / 2);

	/* One mapping of holes, one of device pages with a userfaultfd. */
	KUNIT_ASSERT_EQ(test, 0,
			gpusvm_mock_vm_flags(addr, VM_UFFD_MISSING, 0));
	devmem_vm->deaf = true;
	KUNIT_ASSERT_EQ(test, addr,
			vm_mmap(NULL, addr, half, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0));
	devmem_vm->deaf = false;
	pagemap_mock_expect_resident(test, dev(test, 0), CHUNK / 2);

	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), 0);
	gpusvm_mock_expect_mapped(range, false);
	KUNIT_EXPECT_EQ(test, CHUNK,
			pagemap_mock_count(test, addr, CHUNK,
					   PAGEMAP_MOCK_RAM));
	KUNIT_EXPECT_EQ(test, 0,
			pagemap_mock_read_zero(addr, CHUNK / 2));

	/* A hole that the userfaultfd would have to fill is an error. */
	gpusvm_mock_discard(addr + half, 1);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false),
			IS_ENABLED(CONFIG_USERFAULTFD) ? -EFAULT : 0);
	KUNIT_ASSERT_EQ(test, 0, gpusvm_mock_vm_flags(addr + half, 0,
						      VM_UFFD_MISSING));
}

/* Succeeds if eviction brings back device pages, and nothing else. */
static void drm_gpusvm_test_pattern_evict(struct kunit *test)
{
	unsigned int first = *(const unsigned int *)test->param_value * 64, p;
	unsigned long addr = setup(test, 4);
	struct pattern pattern;
	unsigned int none;

	dev(test, 1);
	for (p = first; p < first + 64; p++) {
		pattern = setup_pattern(test, addr, p);
		none = pattern.num[PAGEMAP_MOCK_NONE];
		KUNIT_EXPECT_EQ(test, gpusvm_mock_evict(pattern.range), 0);
		KUNIT_EXPECT_EQ(test, none,
				pagemap_mock_count(test, addr, 4,
						   PAGEMAP_MOCK_NONE));
		KUNIT_EXPECT_EQ(test, 4 - none,
				pagemap_mock_count(test, addr, 4,
						   PAGEMAP_MOCK_RAM));
		finish_pattern(test, &pattern);
	}
}

static const bool read_only_params[] = { false, true };

static void read_only_desc(const bool *p, char *desc)
{
	strscpy(desc, *p ? "to read" : "to write", KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(read_only, read_only_params, read_only_desc);

/* Succeeds if device pages are mapped, and unmapped when they go. */
static void drm_gpusvm_test_get_device(struct kunit *test)
{
	const bool read_only = *(const bool *)test->param_value;
	unsigned long addr = setup_on_dev(test, 0, CHUNK);
	struct drm_gpusvm_range *range = gpusvm_mock_range(devmem_vm, addr);
	struct pagemap_mock_dev *mdev = dev(test, 0);

	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, read_only), 0);
	gpusvm_mock_expect_mapped(range, read_only);
	KUNIT_EXPECT_PTR_EQ(test, range->dpagemap, &mdev->dpagemap);
	KUNIT_EXPECT_EQ(test, atomic_read(&mdev->maps), 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&mdev->unmaps), 0);
	KUNIT_EXPECT_EQ(test, devmem_vm->map_calls, 0);
	pagemap_mock_expect_resident(test, mdev, CHUNK);

	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, CHUNK, SEED), 0);
	gpusvm_mock_expect_unmapped(range);
	KUNIT_EXPECT_EQ(test, atomic_read(&mdev->unmaps), 1);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, read_only), 0);
	gpusvm_mock_expect_mapped(range, read_only);
}

/* Succeeds if a peer's pages are mapped, or refused if out of reach. */
static void drm_gpusvm_test_get_peer(struct kunit *test)
{
	unsigned long addr = setup_on_dev(test, 1, CHUNK);
	struct drm_gpusvm_range *range = gpusvm_mock_range(devmem_vm, addr);
	struct pagemap_mock_dev *mdev = dev(test, 1);

	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), 0);
	gpusvm_mock_expect_mapped(range, false);
	KUNIT_EXPECT_PTR_EQ(test, range->dpagemap, &mdev->dpagemap);
	gpusvm_mock_unmap(range);

	mdev->unreachable = true;
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), -EOPNOTSUPP);
	gpusvm_mock_expect_unmapped(range);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_evict(range), 0);
	pagemap_mock_expect_resident(test, mdev, 0);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), 0);
	gpusvm_mock_expect_mapped(range, false);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, CHUNK, SEED), 0);
}

/* Succeeds if a single page out of reach fails the call. */
static void drm_gpusvm_test_mixed_unreachable(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = dev(test, 1);
	unsigned long addr = setup(test, CHUNK), i;
	struct drm_gpusvm_range *range = gpusvm_mock_range(devmem_vm, addr);

	mdev->unreachable = true;
	KUNIT_ASSERT_EQ(test, pagemap_mock_write(addr, CHUNK, SEED), 0);
	for (i = 0; i < CHUNK; i++) {
		pagemap_mock_to_dev(mdev, addr + pages(i), 1, 0);
		KUNIT_EXPECT_EQ(test, gpusvm_mock_get_mixed(range, false),
				-EOPNOTSUPP);
		pagemap_mock_expect_resident(test, mdev, 1);
		expect_refused(test, range, true);
	}
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), 0);
	gpusvm_mock_expect_mapped(range, false);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, CHUNK, SEED), 0);
}

/* Succeeds if each mapping of a mixed range may fail, and leaves nothing. */
static void drm_gpusvm_test_mixed_fails(struct kunit *test)
{
	unsigned long addr = setup(test, CHUNK);
	struct drm_gpusvm_range *range = gpusvm_mock_range(devmem_vm, addr);
	struct pagemap_mock_dev *mdev = dev(test, 0);
	unsigned int i, k;
	int err;

	KUNIT_ASSERT_EQ(test, pagemap_mock_write(addr, CHUNK, SEED), 0);
	for (i = 0; i < CHUNK; i += 2)
		pagemap_mock_to_dev(mdev, addr + pages(i), 1, 0);

	for (k = 1; ; k++) {
		devmem_vm->map_calls = 0;
		devmem_vm->fail_map = k;
		err = gpusvm_mock_get_mixed(range, false);
		if (!err)
			break;
		KUNIT_ASSERT_LE(test, k, CHUNK / 2);
		KUNIT_EXPECT_EQ(test, err, -EFAULT);
		KUNIT_EXPECT_EQ(test, atomic_read(&mdev->maps),
				k * (k + 1) / 2);
		KUNIT_EXPECT_EQ(test, atomic_read(&mdev->unmaps),
				k * (k + 1) / 2);
		gpusvm_mock_expect_unmapped(range);
	}
	KUNIT_EXPECT_EQ(test, k, CHUNK / 2 + 1);
	gpusvm_mock_expect_mapped(range, false);
}

/* Succeeds if pages of somebody else's device come to RAM. */
static void drm_gpusvm_test_foreign(struct kunit *test)
{
	unsigned long addr;
	struct drm_gpusvm_range *range;

	devmem_vm->devmem_owner = &devmem_vm;
	addr = setup_on_dev(test, 0, CHUNK);
	range = gpusvm_mock_range(devmem_vm, addr);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_evict(range), 0);
	pagemap_mock_expect_resident(test, dev(test, 0), CHUNK);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), 0);
	gpusvm_mock_expect_mapped(range, false);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, CHUNK, SEED), 0);
	pagemap_mock_expect_resident(test, dev(test, 0), 0);
}

static const bool mixed_params[] = { false, true };

static void mixed_desc(const bool *p, char *desc)
{
	strscpy(desc, *p ? "mixed" : "all or nothing", KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(mixed, mixed_params, mixed_desc);

/* Succeeds if a single page of RAM fails the call, as does a missing one. */
static void drm_gpusvm_test_devmem_only(struct kunit *test)
{
	const bool mixed = *(const bool *)test->param_value;
	const struct drm_gpusvm_ctx ctx = {
		.devmem_only = true,
		.allow_mixed = mixed,
	};
	unsigned long addr = setup_on_dev(test, 0, CHUNK);
	struct drm_gpusvm_range *range = gpusvm_mock_range(devmem_vm, addr);

	KUNIT_EXPECT_EQ(test, gpusvm_mock_get_ctx(range, &ctx), 0);
	gpusvm_mock_expect_mapped(range, false);
	devmem_vm->invalidations = 0;
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get_ctx(range, &ctx), 0);
	KUNIT_EXPECT_EQ(test, devmem_vm->invalidations, 0);

	gpusvm_mock_discard(addr + pages(CHUNK - 1), 1);
	KUNIT_ASSERT_EQ(test, 0, pagemap_mock_write(addr + pages(CHUNK - 1), 1,
						    SEED));
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get_ctx(range, &ctx),
			mixed ? -EFAULT : -EOPNOTSUPP);
	gpusvm_mock_expect_unmapped(range);
	pagemap_mock_expect_resident(test, dev(test, 0), CHUNK - 1);

	gpusvm_mock_discard(addr + pages(CHUNK - 1), 1);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get_ctx(range, &ctx), -EFAULT);
	gpusvm_mock_expect_unmapped(range);
	pagemap_mock_expect_resident(test, dev(test, 0),
				     mixed ? CHUNK - 1 : 0);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get_mixed(range, false), 0);
	gpusvm_mock_expect_mapped(range, false);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get_ctx(range, &ctx), -EFAULT);
	gpusvm_mock_expect_unmapped(range);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, CHUNK - 1, SEED), 0);
}

/*
 * Succeeds if a read-only device page that nobody shares is mapped for writing
 * where it is.
 */
static void drm_gpusvm_test_write_in_place(struct kunit *test)
{
	unsigned long addr = setup_read_only_on_dev(test, CHUNK);
	struct drm_gpusvm_range *range = gpusvm_mock_range(devmem_vm, addr);

	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, true), 0);
	gpusvm_mock_expect_mapped(range, true);
	KUNIT_EXPECT_TRUE(test, range->flags.has_devmem_pages);
	pagemap_mock_expect_resident(test, dev(test, 0), CHUNK);

	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), 0);
	gpusvm_mock_expect_mapped(range, false);
	KUNIT_EXPECT_TRUE(test, range->flags.has_devmem_pages);
	pagemap_mock_expect_resident(test, dev(test, 0), CHUNK);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read_zero(addr, CHUNK), 0);
}

/* Maps a page by a special entry, which hides its struct page. */
static int insert_special(unsigned long addr, struct page *page)
{
	pfn_t pfn = page_to_pfn_t(page);
	vm_fault_t ret;

	if (gpusvm_mock_vm_flags(addr, VM_MIXEDMAP, 0))
		return -ENOENT;

	mmap_read_lock(current->mm);
	ret = vmf_insert_mixed(vma_lookup(current->mm, addr), addr, pfn);
	mmap_read_unlock(current->mm);

	return ret == VM_FAULT_NOPAGE ? 0 : -EFAULT;
}

/* Succeeds if a special entry is refused without retries. */
static void drm_gpusvm_test_special(struct kunit *test)
{
	static const unsigned long at[] = { 0, 7, CHUNK - 1 };
	unsigned long addr = setup(test, CHUNK);
	struct drm_gpusvm_range *range = gpusvm_mock_range(devmem_vm, addr);
	struct page *page = alloc_page(GFP_KERNEL | __GFP_ZERO);
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, page);
	for (i = 0; i < ARRAY_SIZE(at); i++) {
		KUNIT_EXPECT_EQ(test, 0,
				insert_special(addr + pages(at[i]), page));
		devmem_vm->looks = 0;
		KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, true), -EIO);
		KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), -EIO);
		KUNIT_EXPECT_EQ(test, devmem_vm->looks, 2);
		gpusvm_mock_expect_unmapped(range);
		gpusvm_mock_discard(addr, CHUNK);
		gpusvm_mock_vm_flags(addr, 0, VM_MIXEDMAP);
	}
	KUNIT_EXPECT_EQ(test, page_count(page), 1);
	__free_page(page);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), 0);
	gpusvm_mock_expect_mapped(range, false);
}

/* Succeeds if the zero page is never mapped for writing. */
static void drm_gpusvm_test_zero_page(struct kunit *test)
{
	unsigned long i, addr = setup(test, CHUNK);
	struct drm_gpusvm_range *range = gpusvm_mock_range(devmem_vm, addr);

	for (i = 0; i < CHUNK; i++)
		KUNIT_ASSERT_EQ(test, pagemap_mock_touch(addr + pages(i)), 0);
	KUNIT_ASSERT_EQ(test, CHUNK,
			pagemap_mock_count(test, addr, CHUNK,
					   PAGEMAP_MOCK_ZERO));
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, true), 0);
	gpusvm_mock_expect_mapped(range, true);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), 0);
	gpusvm_mock_expect_mapped(range, false);
	KUNIT_EXPECT_EQ(test, CHUNK,
			pagemap_mock_count(test, addr, CHUNK,
					   PAGEMAP_MOCK_RAM));
}

/* Succeeds if device pages count as present. */
static void drm_gpusvm_test_threshold(struct kunit *test)
{
	const struct drm_gpusvm_ctx ctx = {
		.check_pages_threshold = pages(CHUNK),
	};
	unsigned long addr = setup_on_dev(test, 0, CHUNK);
	struct drm_gpusvm_range *range;

	range = gpusvm_mock_insert_ctx(devmem_vm, addr, &ctx);
	KUNIT_ASSERT_FALSE(test, IS_ERR(range));
	KUNIT_EXPECT_EQ(test, drm_gpusvm_range_size(range), pages(CHUNK));
	pagemap_mock_expect_resident(test, dev(test, 0), CHUNK);
}

/*
 * Eviction.
 */

struct evict_param {
	const char *desc;
	unsigned long hole[4];	/* unmapped: from, length, from, length */
	unsigned long fault_window;
};

static const struct evict_param evict_params[] = {
	{ "no hole", {} },
	{ "first page", { 0, 1 } },
	{ "middle", { 7, 2 } },
	{ "last page", { 15, 1 } },
	{ "first half", { 0, 8 } },
	{ "second half", { 8, 8 } },
	{ "two holes", { 2, 3, 9, 4 } },
	{ "both ends", { 0, 3, 12, 4 } },
	{ "all but one page", { 0, 9, 10, 6 } },
	{ "page by page", {}, PAGE_SIZE },
	{ "page by page, two holes", { 2, 3, 9, 4 }, PAGE_SIZE },
	{ "all", { 0, 16 } },
};

KUNIT_ARRAY_PARAM_DESC(evict, evict_params, desc);

/* Succeeds if all that is left comes back, wherever the holes are. */
static void drm_gpusvm_test_evict(struct kunit *test)
{
	const struct evict_param *p = test->param_value;
	unsigned long addr = setup(test, CHUNK), left = CHUNK, i;
	struct pagemap_mock_bo *bo;
	struct drm_gpusvm_range *range;

	KUNIT_ASSERT_EQ(test, pagemap_mock_write(addr, CHUNK, SEED), 0);
	bo = pagemap_mock_bo(dev(test, 0), CHUNK, 0);
	bo->devmem.fault_window = p->fault_window;
	KUNIT_ASSERT_EQ(test, pagemap_mock_migrate(bo, addr, CHUNK, 0), 0);
	range = gpusvm_mock_range(devmem_vm, addr);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), 0);

	for (i = 0; i < 4; i += 2) {
		if (!p->hole[i + 1])
			continue;
		KUNIT_ASSERT_EQ(test, 0, vm_munmap(addr + pages(p->hole[i]),
						   pages(p->hole[i + 1])));
		left -= p->hole[i + 1];
	}
	pagemap_mock_expect_resident(test, dev(test, 0), left);

	KUNIT_EXPECT_EQ(test, gpusvm_mock_evict(range), 0);
	pagemap_mock_expect_resident(test, dev(test, 0), 0);
	gpusvm_mock_expect_unmapped(range);
	KUNIT_EXPECT_EQ(test, left, pagemap_mock_count(test, addr, CHUNK,
						       PAGEMAP_MOCK_RAM));
	for (i = 0; i < CHUNK; i++)
		if (i - p->hole[0] >= p->hole[1] &&
		    i - p->hole[2] >= p->hole[3])
			KUNIT_EXPECT_EQ(test, 0,
					pagemap_mock_read(addr + pages(i), 1,
							  SEED));
	pagemap_mock_expect_released(test, bo);
}

/* Succeeds if eviction and a write do not wait for the timeslice. */
static void drm_gpusvm_test_timeslice(struct kunit *test)
{
	unsigned long addr = setup(test, 2 * CHUNK), begin = jiffies;
	struct drm_gpusvm_range *range = gpusvm_mock_range(devmem_vm, addr);
	struct drm_gpusvm_range *other;
	struct pagemap_mock_bo *bo;
	unsigned int i;

	other = gpusvm_mock_range(devmem_vm, addr + pages(CHUNK));
	KUNIT_ASSERT_EQ(test, gpusvm_mock_vm_flags(addr, 0, VM_WRITE), 0);
	for (i = 0; i < 2; i++) {
		bo = pagemap_mock_bo(dev(test, 0), CHUNK, 0);
		KUNIT_ASSERT_EQ(test, 0,
				pagemap_mock_migrate(bo,
						     addr + pages(i * CHUNK),
						     CHUNK, 1000 * 1000));
	}
	KUNIT_ASSERT_EQ(test, gpusvm_mock_vm_flags(addr, VM_WRITE, 0), 0);

	KUNIT_EXPECT_EQ(test, gpusvm_mock_evict(range), 0);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(other, false), 0);
	gpusvm_mock_expect_mapped(other, false);
	KUNIT_EXPECT_LT(test, jiffies - begin, 30 * HZ);
}

/* Succeeds if a failed copy is reported, and works later. */
static void drm_gpusvm_test_evict_copy_fails(struct kunit *test)
{
	unsigned long addr = setup_on_dev(test, 0, CHUNK);
	struct drm_gpusvm_range *range = gpusvm_mock_range(devmem_vm, addr);
	struct pagemap_mock_hook *hook;

	hook = pagemap_mock_arm(dev(test, 0), PAGEMAP_MOCK_TO_RAM);
	hook->fail_call = 1;
	hook->fail_calls = INT_MAX / 2;
	hook->error = -EIO;
	KUNIT_EXPECT_EQ(test, gpusvm_mock_evict(range), -EFAULT);
	pagemap_mock_expect_resident(test, dev(test, 0), CHUNK);
	pagemap_mock_arm(dev(test, 0), PAGEMAP_MOCK_TO_RAM);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_evict(range), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, CHUNK, SEED), 0);
}

/* Succeeds if eviction gives up by the deadline if pages cannot move. */
static void drm_gpusvm_test_evict_busy(struct kunit *test)
{
	unsigned long addr = setup_on_dev(test, 0, CHUNK), begin;
	struct drm_gpusvm_range *range = gpusvm_mock_range(devmem_vm, addr);
	struct page *page = pfn_to_page(dev(test, 0)->region->start_pfn);
	unsigned long i;

	/* A reference that nobody accounts for keeps a page where it is. */
	for (i = 0; i < CHUNK; i++)
		get_page(page + i);
	devmem_vm->gpusvm.timeout_ms = 100;
	begin = jiffies;
	KUNIT_EXPECT_EQ(test, gpusvm_mock_evict(range), -EBUSY);
	KUNIT_EXPECT_LT(test, jiffies - begin, 30 * HZ);
	for (i = 0; i < CHUNK; i++)
		put_page(page + i);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_evict(range), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, CHUNK, SEED), 0);
}

struct op_param {
	const char *desc;
	bool get;
};

static const struct op_param op_params[] = {
	{ "evict", false },
	{ "get", true },
};

KUNIT_ARRAY_PARAM_DESC(op, op_params, desc);

/*
 * Every other page is on the device, which each take a pass to come back; and with
 * a hole, the range cannot be mapped without that.
 */
static struct drm_gpusvm_range *setup_to_ram(struct kunit *test)
{
	unsigned long addr = setup(test, CHUNK), i;

	KUNIT_ASSERT_EQ(test, pagemap_mock_write(addr, CHUNK, SEED), 0);
	for (i = 0; i < CHUNK; i += 2)
		pagemap_mock_to_dev(dev(test, 0), addr + pages(i), 1, 0);
	gpusvm_mock_discard(addr + pages(CHUNK - 1), 1);

	return gpusvm_mock_range(devmem_vm, addr);
}

static int to_ram(const struct op_param *op, struct drm_gpusvm_range *range)
{
	return op->get ? gpusvm_mock_get(range, false) : gpusvm_mock_evict(range);
}

/*
 * Succeeds if pages that come back slowly, but one after the other, all do: the
 * deadline is for one, not for all of them.
 */
static void drm_gpusvm_test_progress_earns_time(struct kunit *test)
{
	struct drm_gpusvm_range *range = setup_to_ram(test);
	struct pagemap_mock_hook *hook;

	hook = pagemap_mock_arm(dev(test, 0), PAGEMAP_MOCK_TO_RAM);
	hook->delay_ms = 200;
	devmem_vm->gpusvm.timeout_ms = 1000;
	KUNIT_EXPECT_EQ(test, to_ram(test->param_value, range), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&hook->calls), CHUNK / 2);
	pagemap_mock_expect_resident(test, dev(test, 0), 0);
	KUNIT_EXPECT_EQ(test, 0, pagemap_mock_read(drm_gpusvm_range_start(range),
						   CHUNK - 1, SEED));
}

/* Somebody who makes a lookup stale right after it */
struct spoiler {
	struct drm_gpusvm_range *range;
	struct completion ready;
};

static bool wait_contended(struct rw_semaphore *sem)
{
	unsigned long deadline = jiffies + PAGEMAP_MOCK_PATIENCE * HZ;

	while (!rwsem_is_contended(sem) && time_before(jiffies, deadline))
		msleep(20);

	return rwsem_is_contended(sem);
}

static int spoiler_thread(void *arg)
{
	struct spoiler *spoiler = arg;
	struct drm_gpusvm *gpusvm = spoiler->range->gpusvm;
	struct mm_struct *mm = current->mm;
	bool found;

	/* The lookup waits at its begin; its end needs the notifier lock. */
	mmap_write_lock(mm);
	complete_all(&spoiler->ready);
	found = wait_contended(&mm->mmap_lock);
	down_write(&gpusvm->notifier_lock);
	mmap_write_unlock(mm);

	found = found && wait_contended(&gpusvm->notifier_lock);
	drm_gpusvm_range_set_stale(spoiler->range);
	up_write(&gpusvm->notifier_lock);

	return found ? 0 : -ETIMEDOUT;
}

/*
 * Succeeds if pages are not looked at that may be gone, since the process changed
 * its memory after they were looked up: no page is moved on that ground.
 */
static void drm_gpusvm_test_stale_lookup(struct kunit *test)
{
	struct drm_gpusvm_range *range = setup_to_ram(test);
	struct pagemap_mock_thread *thread;
	struct spoiler *spoiler;

	if (IS_ENABLED(CONFIG_PREEMPT_RT))
		kunit_skip(test, "nobody can tell who waits for a lock");
	spoiler = kunit_kzalloc(test, sizeof(*spoiler), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, spoiler);
	spoiler->range = range;
	init_completion(&spoiler->ready);

	/* There is no second try. */
	devmem_vm->gpusvm.timeout_ms = 0;
	thread = pagemap_mock_thread(test, spoiler_thread, spoiler);
	KUNIT_EXPECT_TRUE(test, pagemap_mock_wait(test, &spoiler->ready));
	KUNIT_EXPECT_EQ(test, to_ram(test->param_value, range), -EBUSY);
	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, thread), 0);
	pagemap_mock_expect_resident(test, dev(test, 0), CHUNK / 2);

	devmem_vm->gpusvm.timeout_ms = PAGEMAP_MOCK_PATIENCE * MSEC_PER_SEC;
	KUNIT_EXPECT_EQ(test, to_ram(test->param_value, range), 0);
	pagemap_mock_expect_resident(test, dev(test, 0), 0);
	KUNIT_EXPECT_EQ(test, 0, pagemap_mock_read(drm_gpusvm_range_start(range),
						   CHUNK - 1, SEED));
}

/*
 * Huge pages.
 */

static unsigned int order_of(const struct drm_gpusvm_range *range,
			     unsigned long k)
{
	return range->dma_addr[k].order;
}

/* The most pages that a mapping of RAM can have. */
static unsigned long bus_limit(void)
{
	unsigned long most = dma_max_mapping_size(devmem_vm->dev) >> PAGE_SHIFT;

	return rounddown_pow_of_two(max(most, 1UL));
}

struct thp_param {
	const char *desc;
	unsigned long npages;
	bool devmem;
};

static const struct thp_param thp_params[] = {
	{ "chunks of 1 page", 1 },
	{ "chunks of 4 pages", 4 },
	{ "chunks of 16 pages", 16 },
	{ "chunks of 64 pages", 64 },
	{ "chunks of 512 pages", 512 },
	{ "chunks of 1 page on a device", 1, true },
	{ "chunks of 4 pages on a device", 4, true },
	{ "chunks of 16 pages on a device", 16, true },
	{ "chunks of 64 pages on a device", 64, true },
	{ "chunks of 512 pages on a device", 512, true },
};

KUNIT_ARRAY_PARAM_DESC(thp, thp_params, desc);

/*
 * Succeeds if a range is mapped with the largest order that stays within it,
 * wherever in a huge page, or in 2 MiB of device memory, it is.
 */
static void drm_gpusvm_test_thp(struct kunit *test)
{
	const struct thp_param *p = test->param_value;
	unsigned long chunk = pages(p->npages), addr, at, most;
	struct pagemap_mock_dev *mdev = dev(test, 0);
	struct drm_gpusvm_range *range;

	if (HPAGE_PMD_NR != 512)
		kunit_skip(test, "huge pages of another size");
	if (!IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE) && !p->devmem)
		kunit_skip(test, "no huge pages");
	addr = pagemap_mock_mmap_thp(test, HPAGE_PMD_NR);
	KUNIT_ASSERT_NE(test, addr, 0);
	KUNIT_ASSERT_EQ(test, pagemap_mock_write(addr, HPAGE_PMD_NR, SEED), 0);
	KUNIT_ASSERT_EQ(test, 0,
			gpusvm_mock_init_chunks(devmem_vm, addr,
						addr + HPAGE_PMD_SIZE,
						HPAGE_PMD_SIZE, &chunk, 1));

	/* Bounce buffers are smaller than huge pages. */
	most = p->devmem ? p->npages : min(p->npages, bus_limit());
	if (p->devmem)
		pagemap_mock_to_dev(mdev, addr, HPAGE_PMD_NR, 0);

	for (at = addr; at < addr + HPAGE_PMD_SIZE;
	     at += max(chunk, HPAGE_PMD_SIZE / 8)) {
		range = gpusvm_mock_range(devmem_vm, at + chunk - 1);
		KUNIT_ASSERT_EQ(test, drm_gpusvm_range_size(range), chunk);
		KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), 0);
		KUNIT_EXPECT_EQ(test, p->npages / most,
				gpusvm_mock_num_maps(devmem_vm) +
				atomic_read(&mdev->maps) -
				atomic_read(&mdev->unmaps));
		KUNIT_EXPECT_EQ(test, 1UL << order_of(range, 0), most);
		gpusvm_mock_expect_mapped(range, false);
		gpusvm_mock_remove(range);
	}
}

/* Succeeds if a huge page with a hole is mapped around the hole. */
static void drm_gpusvm_test_thp_hole(struct kunit *test)
{
	unsigned long addr = pagemap_mock_mmap_thp(test, HPAGE_PMD_NR), i;
	struct drm_gpusvm_range *range;

	KUNIT_ASSERT_NE(test, addr, 0);
	KUNIT_ASSERT_EQ(test, pagemap_mock_write(addr, HPAGE_PMD_NR, SEED), 0);
	gpusvm_mock_init(devmem_vm, addr, HPAGE_PMD_NR);
	gpusvm_mock_discard(addr + pages(5), 1);
	range = gpusvm_mock_range(devmem_vm, addr);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), 0);
	gpusvm_mock_expect_mapped(range, false);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read_zero(addr + pages(5), 1), 0);
	for (i = 0; i < CHUNK; i++)
		if (i != 5)
			KUNIT_EXPECT_EQ(test, 0,
					pagemap_mock_read(addr + pages(i), 1,
							  SEED));
}

/*
 * Runs.
 */

static void place_together(struct kunit *test, unsigned long addr)
{
	pagemap_mock_to_dev(dev(test, 0), addr, CHUNK, 0);
}

static void place_one_by_one(struct kunit *test, unsigned long addr)
{
	dev(test, 0)->map_single = true;
	place_together(test, addr);
}

static void place_scattered(struct kunit *test, unsigned long addr)
{
	pagemap_mock_to_dev(dev(test, 0), addr, CHUNK, PAGEMAP_MOCK_SCATTER);
}

/* Each page is in the place of the one before. */
static void place_shifted(struct kunit *test, unsigned long addr)
{
	pagemap_mock_to_dev(dev(test, 0), addr + pages(CHUNK - 1), 1, 0);
	pagemap_mock_to_dev(dev(test, 0), addr, CHUNK - 1, 0);
}

static void place_halves(struct kunit *test, unsigned long addr)
{
	pagemap_mock_to_dev(dev(test, 0), addr, CHUNK / 2, 0);
	pagemap_mock_to_dev(dev(test, 0), addr + pages(CHUNK / 2), CHUNK / 2, 0);
}

static void place_halves_swapped(struct kunit *test, unsigned long addr)
{
	pagemap_mock_to_dev(dev(test, 0), addr + pages(CHUNK / 2), CHUNK / 2, 0);
	pagemap_mock_to_dev(dev(test, 0), addr, CHUNK / 2, 0);
}

static void place_hole(struct kunit *test, unsigned long addr)
{
	place_together(test, addr);
	gpusvm_mock_discard(addr + pages(5), 1);
}

/* A page of RAM amid the device pages, and one at either end. */
static void place_around_ram(struct kunit *test, unsigned long addr)
{
	pagemap_mock_to_dev(dev(test, 0), addr + pages(1), 6, 0);
	pagemap_mock_to_dev(dev(test, 0), addr + pages(8), 7, 0);
}

struct run_param {
	const char *desc;
	void (*place)(struct kunit *test, unsigned long addr);
	unsigned int num_orders;
	u8 order[CHUNK];
};

static const struct run_param run_params[] = {
	{ "together", place_together, 1, { 4 } },
	{ "together, but mapped one by one", place_one_by_one, CHUNK },
	{ "scattered", place_scattered, CHUNK },
	{ "shifted", place_shifted, CHUNK },
	{ "two allocations, neighbours", place_halves, 1, { 4 } },
	{ "two allocations, swapped", place_halves_swapped, 2, { 3, 3 } },
	{ "a hole", place_hole, 5, { 2, 0, 0, 1, 3 } },
	{ "RAM among them", place_around_ram, 13, { [8] = 1, 1, 1 } },
};

KUNIT_ARRAY_PARAM_DESC(run, run_params, desc);

/*
 * Succeeds if device pages are mapped together where they are contiguous and
 * aligned, and not together with pages of RAM.
 */
static void drm_gpusvm_test_device_run(struct kunit *test)
{
	const struct run_param *p = test->param_value;
	unsigned long addr = setup(test, CHUNK), i, k;
	struct drm_gpusvm_range *range;

	KUNIT_ASSERT_EQ(test, pagemap_mock_write(addr, CHUNK, SEED), 0);
	p->place(test, addr);
	range = gpusvm_mock_range(devmem_vm, addr);
	KUNIT_ASSERT_EQ(test, drm_gpusvm_range_size(range), pages(CHUNK));
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get_mixed(range, false), 0);
	gpusvm_mock_expect_mapped(range, false);
	for (i = 0, k = 0; i < CHUNK; i += 1UL << order_of(range, k++))
		KUNIT_EXPECT_EQ(test, order_of(range, k), p->order[k]);
	KUNIT_EXPECT_EQ(test, k, p->num_orders);
}

/* Succeeds if what is left of a range is mapped with the orders it allows. */
static void drm_gpusvm_test_device_run_unmap(struct kunit *test)
{
	static const unsigned int left[] = { 0, 8, 12 };
	unsigned long addr = setup_on_dev(test, 0, CHUNK);
	struct drm_gpusvm_range *range;
	unsigned int i;

	KUNIT_EXPECT_EQ(test, gpusvm_example_fault(devmem_vm, addr, true), 0);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_check_pt(devmem_vm), CHUNK);
	range = gpusvm_mock_range(devmem_vm, addr);
	KUNIT_EXPECT_EQ(test, order_of(range, 0), ilog2(CHUNK));

	KUNIT_ASSERT_EQ(test, vm_munmap(addr + pages(4), pages(4)), 0);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_check_pt(devmem_vm), 0);
	for (i = 0; i < ARRAY_SIZE(left); i++) {
		KUNIT_EXPECT_EQ(test, 0,
				gpusvm_example_fault(devmem_vm,
						     addr + pages(left[i]),
						     true));
		range = gpusvm_mock_range(devmem_vm, addr + pages(left[i]));
		KUNIT_ASSERT_EQ(test, drm_gpusvm_range_size(range), pages(4));
		KUNIT_EXPECT_TRUE(test, range->flags.has_devmem_pages);
		KUNIT_EXPECT_EQ(test, order_of(range, 0), 2);
	}
	KUNIT_EXPECT_EQ(test, gpusvm_mock_check_pt(devmem_vm), CHUNK - 4);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 4, SEED), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr + pages(8), 8, SEED), 0);
}

/* The pages of the process, which are in RAM.  Returns whether they are a run. */
static bool find_run(struct kunit *test, unsigned long addr, struct page **page,
		     unsigned long npages)
{
	bool run = true;
	unsigned long i;

	for (i = 0; i < npages; i++) {
		KUNIT_ASSERT_EQ(test, 1, pagemap_mock_pin(addr + pages(i),
							  &page[i]));
		unpin_user_page(page[i]);
		run &= page_to_pfn(page[i]) == page_to_pfn(page[0]) + i;
	}

	return run && IS_ALIGNED(page_to_pfn(page[0]), npages);
}

/*
 * Succeeds if contiguous pages of RAM take one mapping, although each of them
 * is a folio of its own, and each becomes dirty if the device may write it.
 */
static void drm_gpusvm_test_ram_run(struct kunit *test)
{
	const bool read_only = *(const bool *)test->param_value;
	unsigned long addr = setup(test, CHUNK), i;
	struct drm_gpusvm_range *range;
	struct page *page[CHUNK];
	struct pagemap_mock_bo *bo;

	/* Eviction brings them back to a block of RAM. */
	KUNIT_ASSERT_EQ(test, pagemap_mock_write(addr, CHUNK, SEED), 0);
	bo = pagemap_mock_to_dev(dev(test, 0), addr, CHUNK, 0);
	KUNIT_ASSERT_EQ(test, pagemap_mock_evict(bo), 0);
	if (!find_run(test, addr, page, CHUNK))
		kunit_skip(test, "no contiguous RAM");
	for (i = 0; i < CHUNK; i++) {
		KUNIT_EXPECT_FALSE(test, PageCompound(page[i]));
		ClearPageDirty(page[i]);
	}

	range = gpusvm_mock_range(devmem_vm, addr);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, read_only), 0);
	gpusvm_mock_expect_mapped(range, read_only);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_num_maps(devmem_vm),
			CHUNK / min(CHUNK, bus_limit()));
	for (i = 0; i < CHUNK; i++) {
		KUNIT_EXPECT_EQ(test, PageDirty(page[i]), !read_only);
		SetPageDirty(page[i]);
	}
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, CHUNK, SEED), 0);
}

/* Succeeds with the real DMA API, also with half of a range on a device. */
static void drm_gpusvm_test_real_dma(struct kunit *test)
{
	const bool read_only = *(const bool *)test->param_value;
	unsigned long addr = setup(test, 2 * CHUNK), i;
	struct drm_gpusvm_range *range;

	devmem_vm->real_dma = true;
	KUNIT_ASSERT_EQ(test, pagemap_mock_write(addr, 2 * CHUNK, SEED), 0);
	pagemap_mock_to_dev(dev(test, 0), addr, CHUNK / 2, 0);
	for (i = 0; i < 2; i++) {
		range = gpusvm_mock_range(devmem_vm, addr + pages(i * CHUNK));
		KUNIT_EXPECT_EQ(test, gpusvm_mock_get_mixed(range, read_only),
				0);
		gpusvm_mock_expect_mapped(range, read_only);
		gpusvm_mock_unmap(range);
		KUNIT_EXPECT_EQ(test, gpusvm_mock_get_mixed(range, read_only),
				0);
		gpusvm_mock_remove(range);
	}
	KUNIT_EXPECT_EQ(test, gpusvm_mock_num_maps(devmem_vm), 0);
}

struct share_param {
	const char *desc;
	unsigned int dev;	/* of the second address space */
	bool read_only[2];
};

static const struct share_param share_params[] = {
	{ "two devices, both write", 1, { false, false } },
	{ "two devices, first writes", 1, { false, true } },
	{ "two devices, second writes", 1, { true, false } },
	{ "two devices, both read", 1, { true, true } },
	{ "one device, both write", 0, { false, false } },
	{ "one device, first writes", 0, { false, true } },
};

KUNIT_ARRAY_PARAM_DESC(share, share_params, desc);

/*
 * Succeeds if two GPUs, or one twice, map the same memory at the same time
 * through the real DMA API, and either unmaps it first.
 */
static void drm_gpusvm_test_share(struct kunit *test)
{
	const struct share_param *p = test->param_value;
	unsigned long addr = setup(test, CHUNK);
	struct drm_gpusvm_range *range[2];
	struct pagemap_mock_dev *mdev = dev(test, p->dev);
	unsigned int i, first;

	KUNIT_ASSERT_EQ(test, pagemap_mock_write(addr, CHUNK, SEED), 0);
	devmem_vm2 = gpusvm_mock_create(test, mdev->dev, mdev->drm);
	devmem_vm2->devmem_owner = devmem_vm->devmem_owner;
	gpusvm_mock_init(devmem_vm2, devmem_vm->gpusvm.mm_start,
			 devmem_vm->gpusvm.mm_range >> PAGE_SHIFT);
	devmem_vm->real_dma = true;
	devmem_vm2->real_dma = true;
	range[0] = gpusvm_mock_range(devmem_vm, addr);
	range[1] = gpusvm_mock_range(devmem_vm2, addr);

	for (first = 0; first < 3; first++) {
		for (i = 0; i < 2; i++)
			KUNIT_EXPECT_EQ(test, 0,
					gpusvm_mock_get(range[i],
							p->read_only[i]));
		for (i = 0; i < 2; i++)
			gpusvm_mock_expect_mapped(range[i], p->read_only[i]);
		if (first == 2)
			break;

		gpusvm_mock_unmap(range[first]);
		gpusvm_mock_expect_unmapped(range[first]);
		gpusvm_mock_expect_mapped(range[!first], p->read_only[!first]);
		KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, CHUNK, SEED), 0);
		gpusvm_mock_unmap(range[!first]);
		gpusvm_mock_expect_unmapped(range[!first]);
		KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, CHUNK, SEED), 0);
	}

	/* An invalidation takes both. */
	gpusvm_mock_discard(addr + pages(3), 1);
	for (i = 0; i < 2; i++)
		gpusvm_mock_expect_unmapped(range[i]);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_num_maps(devmem_vm), 0);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_num_maps(devmem_vm2), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 3, SEED), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read_zero(addr + pages(3), 1), 0);
}

/*
 * Other threads and processes.
 */

static struct drm_gpusvm_range *orphan;
static struct kunit *orphan_test;

/* A process with a range, which ends. */
static int make_orphan(void *arg)
{
	unsigned long addr;

	/* Makes the stubs work for invalidations in this thread. */
	current->kunit_test = orphan_test;
	addr = setup_on_dev(orphan_test, 0, CHUNK);
	orphan = gpusvm_mock_insert(devmem_vm, addr);
	if (IS_ERR(orphan))
		return PTR_ERR(orphan);

	return gpusvm_mock_get(orphan, false);
}

/* Succeeds if only cleanup is possible after the process is gone. */
static void drm_gpusvm_test_mm_gone(struct kunit *test)
{
	struct drm_gpusvm *gpusvm = &devmem_vm->gpusvm;
	struct pagemap_mock_thread *thread;
	unsigned long addr, deadline;

	orphan_test = test;
	thread = pagemap_mock_process(test, make_orphan, NULL);
	KUNIT_ASSERT_EQ(test, pagemap_mock_join(test, thread), 0);
	deadline = jiffies + PAGEMAP_MOCK_PATIENCE * HZ;
	while (atomic_read(&gpusvm->mm->mm_users) &&
	       time_before(jiffies, deadline))
		msleep(20);
	while (pagemap_mock_in_use(dev(test, 0)) &&
	       time_before(jiffies, deadline))
		msleep(20);

	addr = drm_gpusvm_range_start(orphan);
	gpusvm_mock_expect_unmapped(orphan);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(orphan, false), -EFAULT);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_evict(orphan), -EFAULT);
	KUNIT_EXPECT_EQ(test, -EFAULT,
			PTR_ERR(gpusvm_mock_insert(devmem_vm, addr)));
	addr += pages(GPUSVM_MOCK_SLOT);
	KUNIT_EXPECT_EQ(test, -EFAULT,
			PTR_ERR(gpusvm_mock_insert(devmem_vm, addr)));
	KUNIT_EXPECT_EQ(test, ULONG_MAX,
			drm_gpusvm_find_vma_start(gpusvm, 0, ULONG_MAX));
	KUNIT_EXPECT_EQ(test, gpusvm_mock_notifiers(devmem_vm), 1);
}

/* A step that threads repeat until they are stopped. */
struct work {
	struct kunit *test;
	int (*step)(struct work *work);
	unsigned long addr, npages;
	bool stop;
	atomic_long_t done;
};

static int work_fn(void *arg)
{
	struct work *work = arg;
	int err = 0;

	current->kunit_test = work->test;
	while (!READ_ONCE(work->stop) && !err) {
		err = work->step(work);
		atomic_long_inc(&work->done);
		cond_resched();
	}

	return err;
}

static int discard_step(struct work *work)
{
	gpusvm_mock_discard(work->addr, work->npages);

	return 0;
}

/* Succeeds if every call ends while a thread keeps changing the memory. */
static void drm_gpusvm_test_storm_thread(struct kunit *test)
{
	unsigned long addr = setup(test, 2 * CHUNK), begin = jiffies, ok = 0;
	struct drm_gpusvm_range *range = gpusvm_mock_range(devmem_vm, addr);
	struct work work = { test, discard_step, addr + pages(5), 1 };
	struct pagemap_mock_thread *thread;
	unsigned int i;
	int err;

	devmem_vm->gpusvm.timeout_ms = 100;
	thread = pagemap_mock_thread(test, work_fn, &work);
	while (!atomic_long_read(&work.done) &&
	       time_before(jiffies, begin + 50 * HZ))
		usleep_range(1000, 2000);
	for (i = 0; i < 20; i++) {
		err = gpusvm_mock_get(range, false);
		if (err)
			KUNIT_EXPECT_EQ(test, err, -EBUSY);
		else
			ok++;
		gpusvm_mock_unmap(range);
	}
	WRITE_ONCE(work.stop, true);
	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, thread), 0);
	KUNIT_EXPECT_LT(test, jiffies - begin, 50 * HZ);
	KUNIT_EXPECT_GT(test, atomic_long_read(&work.done), 0);
	kunit_info(test, "%lu of 20 succeeded, %ld changes", ok,
		   atomic_long_read(&work.done));
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), 0);
	gpusvm_mock_expect_mapped(range, false);
}

/* Another notifier of the process, which takes some time. */
struct slow_notifier {
	struct mmu_notifier mn;
	struct work work;
	struct completion begun;
	bool over, over_at_look;
};

static int slow_start(struct mmu_notifier *mn,
		      const struct mmu_notifier_range *mmu_range)
{
	struct slow_notifier *slow = container_of(mn, struct slow_notifier, mn);

	if (mmu_range->start != slow->work.addr)
		return 0;

	/* The helper has been told, before the page tables change. */
	complete(&slow->begun);
	msleep(500);
	/* invalidate_range_end() would be late: the helper's waiters go first. */
	WRITE_ONCE(slow->over, true);

	return 0;
}

static const struct mmu_notifier_ops slow_ops = {
	.invalidate_range_start = slow_start,
};

static int slow_fn(void *arg)
{
	struct slow_notifier *slow = arg;

	current->kunit_test = slow->work.test;

	return slow->work.step(&slow->work);
}

static void slow_look(struct gpusvm_mock *mock, void *arg)
{
	struct slow_notifier *slow = arg;

	slow->over_at_look = READ_ONCE(slow->over);
}

/*
 * Succeeds if pages are not looked up before an invalidation that is under way
 * is over, and the deadline does not cut that wait short.
 */
static void drm_gpusvm_test_under_way(struct kunit *test)
{
	unsigned long addr = setup(test, CHUNK);
	struct drm_gpusvm_range *range = gpusvm_mock_range(devmem_vm, addr);
	struct slow_notifier slow = {
		.mn.ops = &slow_ops,
		.work = { test, discard_step, addr + pages(5), 1 },
	};
	struct pagemap_mock_thread *thread;

	KUNIT_ASSERT_EQ(test, pagemap_mock_write(addr, CHUNK, SEED), 0);
	init_completion(&slow.begun);
	KUNIT_ASSERT_EQ(test, mmu_notifier_register(&slow.mn, current->mm), 0);
	thread = pagemap_mock_thread(test, slow_fn, &slow);
	KUNIT_EXPECT_TRUE(test, pagemap_mock_wait(test, &slow.begun));

	devmem_vm->gpusvm.timeout_ms = 10;
	devmem_vm->on_look = slow_look;
	devmem_vm->on_look_arg = &slow;
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), 0);
	KUNIT_EXPECT_TRUE(test, slow.over_at_look);
	KUNIT_EXPECT_EQ(test, devmem_vm->looks, 1);
	gpusvm_mock_expect_mapped(range, false);

	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, thread), 0);
	mmu_notifier_unregister(&slow.mn, current->mm);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read_zero(addr + pages(5), 1), 0);
}

static int to_dev_step(struct work *work)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(work->test);
	struct pagemap_mock_bo *bo;

	WRITE_ONCE(work->stop, true);
	bo = pagemap_mock_bo_create(mdev, work->npages, 0);

	return bo ? pagemap_mock_migrate(bo, work->addr, work->npages, 0) :
		    -ENOMEM;
}

static int get_fn(void *arg)
{
	struct drm_gpusvm_range *range = arg;

	current->kunit_test = devmem_vm->test;

	return gpusvm_mock_get(range, false);
}

/*
 * Succeeds if pages that are on their way to the device are waited for, and found
 * there by the same lookup.
 */
static void drm_gpusvm_test_on_the_way(struct kunit *test)
{
	unsigned long addr = setup(test, CHUNK);
	struct drm_gpusvm_range *range = gpusvm_mock_range(devmem_vm, addr);
	struct work work = { test, to_dev_step, addr, CHUNK };
	struct pagemap_mock_thread *mover, *getter;
	struct pagemap_mock_hook *hook;

	KUNIT_ASSERT_EQ(test, pagemap_mock_write(addr, CHUNK, SEED), 0);
	hook = pagemap_mock_block(dev(test, 0), PAGEMAP_MOCK_TO_DEVMEM, 1);
	mover = pagemap_mock_thread(test, work_fn, &work);
	KUNIT_EXPECT_TRUE(test, pagemap_mock_wait(test, &hook->entered));
	getter = pagemap_mock_thread(test, get_fn, range);
	msleep(100);
	KUNIT_EXPECT_FALSE(test, completion_done(&getter->done));
	complete_all(&hook->resume);

	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, mover), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, getter), 0);
	KUNIT_EXPECT_EQ(test, devmem_vm->looks, 1);
	KUNIT_EXPECT_TRUE(test, range->flags.has_devmem_pages);
	gpusvm_mock_expect_mapped(range, false);
}

static int read_step(struct work *work)
{
	unsigned long i = atomic_long_read(&work->done) * 7 % work->npages;

	return pagemap_mock_read(work->addr + pages(i), 1, SEED);
}

/*
 * Succeeds if a process that uses its memory while the GPU faults on it loses
 * nothing, and the GPU's translations agree with the process's in the end.
 */
static void drm_gpusvm_test_threads(struct kunit *test)
{
	unsigned long addr = setup(test, 4 * CHUNK), i, busy = 0;
	struct pagemap_mock_thread *thread[2];
	struct work work = { test, read_step, addr, 4 * CHUNK };
	int err;

	KUNIT_ASSERT_EQ(test, pagemap_mock_write(addr, 4 * CHUNK, SEED), 0);
	for (i = 0; i < 2; i++)
		thread[i] = pagemap_mock_thread(test, work_fn, &work);
	devmem_vm->gpusvm.timeout_ms = 100;
	for (i = 0; i < 100; i++) {
		err = gpusvm_example_fault(devmem_vm,
					   addr + pages(i * 13 % (4 * CHUNK)),
					   i & 1);
		/* The driver gives up after some tries. */
		if (err == -EAGAIN || err == -EBUSY)
			busy++;
		else
			KUNIT_EXPECT_EQ(test, err, 0);
	}
	WRITE_ONCE(work.stop, true);
	pagemap_mock_join_all(test, thread, 2);
	kunit_info(test, "%lu of 100 gave up, %ld CPU faults", busy,
		   atomic_long_read(&work.done));
	gpusvm_mock_check_pt(devmem_vm);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 4 * CHUNK, SEED), 0);
}

/* Succeeds if the driver of the documentation works as described. */
static void drm_gpusvm_test_driver(struct kunit *test)
{
	unsigned long addr = setup(test, 4 * CHUNK), at, i;

	KUNIT_ASSERT_EQ(test, pagemap_mock_write(addr, 4 * CHUNK, SEED), 0);
	for (i = 0; i < 4; i++) {
		at = addr + pages(i * CHUNK + i);
		KUNIT_EXPECT_EQ(test, 0,
				gpusvm_example_fault(devmem_vm, at, true));
	}
	KUNIT_EXPECT_EQ(test, gpusvm_mock_check_pt(devmem_vm), 4 * CHUNK);
	pagemap_mock_expect_resident(test, dev(test, 0), 4 * CHUNK);

	/* The process takes back a part, and unmaps a part. */
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, CHUNK, SEED), 0);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_check_pt(devmem_vm), 3 * CHUNK);
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(addr + pages(CHUNK + 3), pages(5)));
	KUNIT_EXPECT_EQ(test, gpusvm_mock_check_pt(devmem_vm), 2 * CHUNK);

	for (i = 0; i < 4 * CHUNK; i++)
		KUNIT_EXPECT_EQ(test, i >= CHUNK + 3 && i < CHUNK + 8 ?
				-ENOENT : 0,
				gpusvm_example_fault(devmem_vm, addr + pages(i),
						     true));
	KUNIT_EXPECT_EQ(test, gpusvm_mock_check_pt(devmem_vm), 4 * CHUNK - 5);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, CHUNK + 3, SEED), 0);
	KUNIT_EXPECT_EQ(test, 0, pagemap_mock_read(addr + pages(CHUNK + 8),
						   3 * CHUNK - 8, SEED));
}

/* Succeeds if the pages of a device that goes are mapped in RAM. */
static void drm_gpusvm_test_unplug(struct kunit *test)
{
	unsigned long addr = setup_on_dev(test, 1, CHUNK);
	struct drm_gpusvm_range *range = gpusvm_mock_range(devmem_vm, addr);

	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), 0);
	drm_pagemap_region_unplug(dev(test, 1)->region);
	gpusvm_mock_expect_unmapped(range);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), 0);
	gpusvm_mock_expect_mapped(range, false);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, CHUNK, SEED), 0);
}

/*
 * Succeeds if the GPU never has a translation that the process does not have,
 * after each of many random changes, migrations among them.
 */
static void drm_gpusvm_test_random(struct kunit *test)
{
	unsigned long addr = setup(test, 8 * CHUNK), at, npages, seen = 0;
	u32 seed = pagemap_mock_seed(test);
	struct rnd_state rnd;
	unsigned int i;
	int err;

	prandom_seed_state(&rnd, seed);
	for (i = 0; i < 300; i++) {
		at = addr + pages(prandom_u32_state(&rnd) % (7 * CHUNK));
		npages = 1 + prandom_u32_state(&rnd) % CHUNK;
		err = 0;
		switch (prandom_u32_state(&rnd) % 8) {
		case 0:
			err = vm_munmap(at, pages(npages));
			break;
		case 1:
		case 2:
			if (vm_mmap(NULL, at, pages(npages),
				    PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
				    0) != at)
				err = -EINVAL;
			break;
		case 3:
			pagemap_mock_touch(at);
			break;
		case 4:
			devmem_vm->stay = !devmem_vm->stay;
			break;
		default:
			err = gpusvm_example_fault(devmem_vm, at, npages & 1);
			if (err == -ENOENT)
				err = 0;
		}
		KUNIT_ASSERT_EQ(test, err, 0);
		seen += gpusvm_mock_check_pt(devmem_vm);
	}
	KUNIT_EXPECT_GT(test, seen, 1000);
}

static struct kunit_case gpusvm_devmem_cases[] = {
	KUNIT_CASE_PARAM(drm_gpusvm_test_pattern_get, digit_gen_params),
	KUNIT_CASE_PARAM(drm_gpusvm_test_pattern_mixed, digit_gen_params),
	KUNIT_CASE_PARAM_ATTR(drm_gpusvm_test_pattern_window, mixed_gen_params,
			      { .speed = KUNIT_SPEED_SLOW }),
	KUNIT_CASE(drm_gpusvm_test_mixed_then_not),
	KUNIT_CASE(drm_gpusvm_test_hole_beside_uffd),
	KUNIT_CASE_PARAM(drm_gpusvm_test_pattern_evict, digit_gen_params),
	KUNIT_CASE_PARAM(drm_gpusvm_test_get_device, read_only_gen_params),
	KUNIT_CASE(drm_gpusvm_test_get_peer),
	KUNIT_CASE(drm_gpusvm_test_mixed_unreachable),
	KUNIT_CASE(drm_gpusvm_test_mixed_fails),
	KUNIT_CASE(drm_gpusvm_test_foreign),
	KUNIT_CASE_PARAM(drm_gpusvm_test_devmem_only, mixed_gen_params),
	KUNIT_CASE(drm_gpusvm_test_write_in_place),
	KUNIT_CASE(drm_gpusvm_test_special),
	KUNIT_CASE(drm_gpusvm_test_zero_page),
	KUNIT_CASE(drm_gpusvm_test_threshold),
	KUNIT_CASE_PARAM(drm_gpusvm_test_evict, evict_gen_params),
	KUNIT_CASE(drm_gpusvm_test_timeslice),
	KUNIT_CASE(drm_gpusvm_test_evict_copy_fails),
	KUNIT_CASE(drm_gpusvm_test_evict_busy),
	KUNIT_CASE_PARAM_ATTR(drm_gpusvm_test_progress_earns_time, op_gen_params,
			      { .speed = KUNIT_SPEED_SLOW }),
	KUNIT_CASE_PARAM(drm_gpusvm_test_stale_lookup, op_gen_params),
	KUNIT_CASE_PARAM(drm_gpusvm_test_thp, thp_gen_params),
	KUNIT_CASE(drm_gpusvm_test_thp_hole),
	KUNIT_CASE_PARAM(drm_gpusvm_test_device_run, run_gen_params),
	KUNIT_CASE(drm_gpusvm_test_device_run_unmap),
	KUNIT_CASE_PARAM(drm_gpusvm_test_ram_run, read_only_gen_params),
	KUNIT_CASE_PARAM(drm_gpusvm_test_real_dma, read_only_gen_params),
	KUNIT_CASE_PARAM(drm_gpusvm_test_share, share_gen_params),
	KUNIT_CASE(drm_gpusvm_test_mm_gone),
	KUNIT_CASE(drm_gpusvm_test_storm_thread),
	KUNIT_CASE(drm_gpusvm_test_under_way),
	KUNIT_CASE(drm_gpusvm_test_on_the_way),
	KUNIT_CASE(drm_gpusvm_test_threads),
	KUNIT_CASE(drm_gpusvm_test_driver),
	KUNIT_CASE(drm_gpusvm_test_unplug),
	KUNIT_CASE(drm_gpusvm_test_random),
	{}
};

/*
 * Succeeds if coherent pages of an owner that is a stranger are mapped like RAM,
 * and no eviction moves them.
 */
static void drm_gpusvm_test_coherent_foreign(struct kunit *test)
{
	struct drm_gpusvm_range *range;
	unsigned long addr;

	devmem_vm->devmem_owner = &devmem_vm;
	addr = setup_on_dev(test, 0, CHUNK);
	range = gpusvm_mock_range(devmem_vm, addr);

	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), 0);
	KUNIT_EXPECT_FALSE(test, range->flags.has_devmem_pages);
	gpusvm_mock_expect_mapped(range, false);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_evict(range), 0);
	KUNIT_EXPECT_EQ(test, CHUNK, pagemap_mock_count(test, addr, CHUNK,
							PAGEMAP_MOCK_DEV0));
}

/* Succeeds if a pinned page, which cannot move, makes an eviction give up. */
static void drm_gpusvm_test_coherent_pinned(struct kunit *test)
{
	unsigned long addr = setup_on_dev(test, 0, CHUNK);
	struct drm_gpusvm_range *range = gpusvm_mock_range(devmem_vm, addr);
	struct page *page;

	KUNIT_ASSERT_EQ(test, pin_user_pages_fast(addr, 1, FOLL_WRITE, &page), 1);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_evict(range), -EBUSY);
	KUNIT_EXPECT_EQ(test, 1, pagemap_mock_count(test, addr, CHUNK,
						    PAGEMAP_MOCK_DEV0));
	unpin_user_page(page);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_evict(range), 0);
	KUNIT_EXPECT_EQ(test, CHUNK, pagemap_mock_count(test, addr, CHUNK,
							PAGEMAP_MOCK_RAM));
}

static struct kunit_case gpusvm_coherent_cases[] = {
	KUNIT_CASE_PARAM(drm_gpusvm_test_pattern_get, digit_gen_params),
	KUNIT_CASE_PARAM(drm_gpusvm_test_pattern_mixed, digit_gen_params),
	KUNIT_CASE_PARAM(drm_gpusvm_test_pattern_evict, digit_gen_params),
	KUNIT_CASE_PARAM(drm_gpusvm_test_device_run, run_gen_params),
	KUNIT_CASE(drm_gpusvm_test_device_run_unmap),
	KUNIT_CASE_PARAM(drm_gpusvm_test_share, share_gen_params),
	KUNIT_CASE(drm_gpusvm_test_unplug),
	KUNIT_CASE(drm_gpusvm_test_coherent_foreign),
	KUNIT_CASE(drm_gpusvm_test_coherent_pinned),
	{}
};

static struct kunit_suite gpusvm_coherent_suite = {
	.name = "drm_gpusvm_coherent",
	.init = drm_gpusvm_coherent_init,
	.exit = drm_gpusvm_devmem_exit,
	.test_cases = gpusvm_coherent_cases,
};

static struct kunit_suite gpusvm_devmem_suite = {
	.name = "drm_gpusvm_devmem",
	.init = drm_gpusvm_devmem_init,
	.exit = drm_gpusvm_devmem_exit,
	.test_cases = gpusvm_devmem_cases,
};

kunit_test_suites(&gpusvm_devmem_suite, &gpusvm_coherent_suite);
