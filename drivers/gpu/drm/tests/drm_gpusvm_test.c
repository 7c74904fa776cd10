// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Tests of GPU SVM that need no device pages: notifiers, ranges and the mapping
 * of RAM.
 */

#include "drm_gpusvm_mock.h"

#include <kunit/visibility.h>

#include <linux/jiffies.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/prandom.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>

#define SLOT		GPUSVM_MOCK_SLOT
#define CHUNK		GPUSVM_MOCK_CHUNK
#define RW		(PROT_READ | PROT_WRITE)

static unsigned long pages(unsigned long npages)
{
	return npages << PAGE_SHIFT;
}

/*
 * Arithmetic.
 */

struct slot_param {
	const char *desc;
	unsigned long start, end, size, addr, slot_start, slot_end;
};

/* In pages, and the last addresses in pages from the end. */
static const struct slot_param slot_params[] = {
	{ "first byte of a slot", 0, 64, 16, 16, 16, 32 },
	{ "last page of a slot", 0, 64, 16, 31, 16, 32 },
	{ "first slot", 0, 64, 16, 0, 0, 16 },
	{ "last slot", 0, 64, 16, 63, 48, 64 },
	{ "start not aligned", 3, 64, 16, 5, 3, 16 },
	{ "start not aligned, second slot", 3, 64, 16, 16, 16, 32 },
	{ "end not aligned", 0, 61, 16, 60, 48, 61 },
	{ "end not aligned, slot before", 0, 61, 16, 47, 32, 48 },
	{ "both in one slot", 17, 19, 16, 18, 17, 19 },
	{ "slot larger than all", 3, 9, 1024, 4, 3, 9 },
	{ "slots of a page", 3, 9, 1, 4, 4, 5 },
	{ "only page", 7, 8, 16, 7, 7, 8 },
};

KUNIT_ARRAY_PARAM_DESC(slot, slot_params, desc);

/*
 * Succeeds if every byte of the page is in the expected slot, also where the
 * mirrored addresses reach the last page that there is.
 */
static void drm_gpusvm_test_slot(struct kunit *test)
{
	const struct slot_param *p = test->param_value;
	static const unsigned long bytes[] = { 0, 1, PAGE_SIZE - 1 };
	unsigned long base, top = -pages(p->end + 1) & -pages(1024);
	struct drm_gpusvm_span slot;
	struct drm_gpusvm gpusvm;
	unsigned int i;

	for (base = 0; ; base = top) {
		gpusvm.mm_start = base + pages(p->start);
		gpusvm.mm_range = pages(p->end - p->start);
		gpusvm.notifier_size = pages(p->size);
		for (i = 0; i < ARRAY_SIZE(bytes); i++) {
			slot = drm_gpusvm_slot(&gpusvm, base + pages(p->addr) +
					       bytes[i]);
			KUNIT_EXPECT_EQ(test, slot.start,
					base + pages(p->slot_start));
			KUNIT_EXPECT_EQ(test, slot.end,
					base + pages(p->slot_end));
		}
		if (base == top)
			break;
	}
}

static const unsigned long fit_params[] = { 1, 2, 4, 8, 16, 32 };

static void fit_desc(const unsigned long *p, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "%lu pages", *p);
}

KUNIT_ARRAY_PARAM(fit, fit_params, fit_desc);

/* A chunk around @addr is within bounds if each of its pages is. */
static bool fits_reference(unsigned long size, unsigned long addr,
			   struct drm_gpusvm_span bounds, unsigned long *start)
{
	unsigned long i;

	*start = addr - addr % size;
	for (i = *start; i < *start + size; i++)
		if (i < bounds.start || i >= bounds.end)
			return false;

	return true;
}

/* Succeeds if all bounds in 48 pages agree with the reference. */
static void drm_gpusvm_test_fits(struct kunit *test)
{
	const unsigned long size = *(const unsigned long *)test->param_value;
	unsigned long addr, start, bad = 0, n = 0;
	struct drm_gpusvm_span b, chunk, scaled;
	bool want, fits;

	for (b.start = 0; b.start < 48; b.start++) {
		for (b.end = b.start + 1; b.end <= 48; b.end++) {
			scaled.start = pages(b.start);
			scaled.end = pages(b.end);
			for (addr = b.start; addr < b.end; addr++) {
				want = fits_reference(size, addr, b, &start);
				fits = drm_gpusvm_chunk_fits(pages(size),
							     pages(addr) + 5,
							     scaled, &chunk);
				if (fits != want)
					bad++;
				if (want && (chunk.start != pages(start) ||
					     chunk.end != pages(start + size)))
					bad++;
				n++;
			}
		}
	}
	KUNIT_EXPECT_EQ(test, bad, 0);
	KUNIT_EXPECT_EQ(test, n, 48 * 49 * 50 / 6);
}

/* Succeeds if nothing less than a page is a chunk. */
static void drm_gpusvm_test_fits_page(struct kunit *test)
{
	struct drm_gpusvm_span bounds = { 0, pages(4) }, chunk;

	KUNIT_EXPECT_FALSE(test, drm_gpusvm_chunk_fits(PAGE_SIZE / 2, 0, bounds,
						       &chunk));
	KUNIT_EXPECT_TRUE(test, drm_gpusvm_chunk_fits(PAGE_SIZE, PAGE_SIZE - 1,
						      bounds, &chunk));
	KUNIT_EXPECT_EQ(test, chunk.start, 0);
	KUNIT_EXPECT_EQ(test, chunk.end, PAGE_SIZE);
}

static struct kunit_case gpusvm_arith_cases[] = {
	KUNIT_CASE_PARAM(drm_gpusvm_test_slot, slot_gen_params),
	KUNIT_CASE_PARAM(drm_gpusvm_test_fits, fit_gen_params),
	KUNIT_CASE(drm_gpusvm_test_fits_page),
	{}
};

static struct kunit_suite gpusvm_arith_suite = {
	.name = "drm_gpusvm_arith",
	.test_cases = gpusvm_arith_cases,
};

/*
 * The fixture: a process with four slots of addresses, the first of which is
 * aligned to its size.
 */

struct fixture {
	struct gpusvm_mock *mock;
	unsigned long base;	/* start of the first slot */
};

static void drm_gpusvm_test_exit(struct kunit *test)
{
	struct fixture *f = test->priv;

	/* The test's thread took its address space along, or is about to. */
	if (f && f->mock && f->mock->gpusvm.mm)
		gpusvm_mock_exit(f->mock);
}

static int drm_gpusvm_test_init(struct kunit *test)
{
	struct fixture *f = kunit_kzalloc(test, sizeof(*f), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, f);
	test->priv = f;
	f->mock = gpusvm_mock_create(test, NULL, NULL);

	/* Makes the address space, and finds room in it. */
	f->base = gpusvm_mock_mmap(test, 4 * SLOT, 0, 4 * SLOT, PROT_NONE);
	KUNIT_ASSERT_EQ(test, vm_munmap(f->base, pages(4 * SLOT)), 0);

	return 0;
}

/* Maps @npages pages, @offset pages from the first slot on. */
static unsigned long map(struct kunit *test, unsigned long offset,
			 unsigned long npages, unsigned long prot)
{
	struct fixture *f = test->priv;
	unsigned long want = f->base + pages(offset), addr;

	addr = vm_mmap(NULL, want, pages(npages), prot,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0);
	KUNIT_ASSERT_EQ(test, addr, want);

	return addr;
}

/* The driver, for all four slots, and @npages writable pages. */
static struct gpusvm_mock *setup(struct kunit *test, unsigned long offset,
				 unsigned long npages)
{
	struct fixture *f = test->priv;

	gpusvm_mock_init(f->mock, f->base, 4 * SLOT);
	if (npages)
		map(test, offset, npages, RW);

	return f->mock;
}

static unsigned long at(struct kunit *test, unsigned long page)
{
	struct fixture *f = test->priv;

	return f->base + pages(page);
}

/*
 * Setup.
 */

struct init_param {
	const char *desc;
	unsigned long start, end, slot, chunk[3];
	int num_chunks;
	int err;
};

#define P	PAGE_SIZE
static const struct init_param init_params[] = {
	{ "good", P, 9 * P, 16 * P, { 4 * P, 2 * P, P }, 3, 0 },
	{ "one chunk", 0, 9 * P, P, { P }, 1, 0 },
	{ "chunk less than a page", 0, P, P, { P, P / 2 }, 2, 0 },
	{ "no chunk of a page", 0, P, P, { P / 2 }, 1, -EINVAL },
	{ "no chunk", 0, P, P, {}, 0, -EINVAL },
	{ "negative", 0, P, P, { P }, -1, -EINVAL },
	{ "chunk of three pages", 0, P, 4 * P, { 3 * P, P }, 2, -EINVAL },
	{ "chunk of nothing", 0, P, 4 * P, { P, 0 }, 2, -EINVAL },
	{ "ascending", 0, P, 4 * P, { P, 2 * P }, 2, -EINVAL },
	{ "twice the same", 0, P, 4 * P, { P, P }, 2, -EINVAL },
	{ "chunk larger than the slot", 0, P, P, { 2 * P, P }, 2, 0 },
	{ "no chunk fits the slot", 0, P, P, { 2 * P, P / 2 }, 2, -EINVAL },
	{ "slot of three pages", 0, P, 3 * P, { P }, 1, -EINVAL },
	{ "slot less than a page", 0, P, P / 2, { P }, 1, -EINVAL },
	{ "nothing", P, P, P, { P }, 1, -EINVAL },
	{ "start not aligned", 1, P + 1, P, { P }, 1, -EINVAL },
	{ "size not aligned", 0, P + 1, P, { P }, 1, -EINVAL },
	{ "around the end", P, 0, P, { P }, 1, -EINVAL },
};

#undef P

KUNIT_ARRAY_PARAM_DESC(init, init_params, desc);

/* Succeeds if invalid arguments are refused, with nothing to undo. */
static void drm_gpusvm_test_setup(struct kunit *test)
{
	const struct init_param *p = test->param_value;
	struct fixture *f = test->priv;
	int err;

	err = gpusvm_mock_init_chunks(f->mock, p->start, p->end, p->slot,
				      p->chunk, p->num_chunks);
	KUNIT_EXPECT_EQ(test, err, p->err);
	if (!err)
		KUNIT_EXPECT_EQ(test, f->mock->gpusvm.mm_range,
				p->end - p->start);
	else
		f->mock->gpusvm.mm = NULL;
}

/* Succeeds if a driver without the bare necessities is refused. */
static void drm_gpusvm_test_setup_ops(struct kunit *test)
{
	struct drm_gpusvm_ops ops = gpusvm_mock_ops;
	struct fixture *f = test->priv;
	struct drm_gpusvm *gpusvm = &f->mock->gpusvm;

	ops.invalidate = NULL;
	KUNIT_EXPECT_EQ(test, -EINVAL,
			drm_gpusvm_init(gpusvm, "test", NULL, current->mm, NULL,
					0, PAGE_SIZE, PAGE_SIZE, &ops,
					&gpusvm_mock_chunks[2], 1));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			drm_gpusvm_init(gpusvm, "test", NULL, current->mm, NULL,
					0, PAGE_SIZE, PAGE_SIZE, NULL,
					&gpusvm_mock_chunks[2], 1));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			drm_gpusvm_init(gpusvm, "test", NULL, NULL, NULL,
					0, PAGE_SIZE, PAGE_SIZE,
					&gpusvm_mock_ops,
					&gpusvm_mock_chunks[2], 1));
}

static void bare_invalidate(struct drm_gpusvm *gpusvm,
			    struct drm_gpusvm_notifier *notifier,
			    const struct mmu_notifier_range *mmu_range)
{
}

/* Succeeds if a driver may leave out the optional operations. */
static void drm_gpusvm_test_bare_ops(struct kunit *test)
{
	static const struct drm_gpusvm_ops ops = {
		.invalidate = bare_invalidate,
	};
	unsigned long addr = map(test, 3, 9, RW);
	struct drm_gpusvm_ctx ctx = {};
	struct fixture *f = test->priv;
	struct drm_gpusvm *gpusvm = &f->mock->gpusvm;
	struct drm_gpusvm_range *range;

	KUNIT_ASSERT_EQ(test, 0,
			drm_gpusvm_init(gpusvm, "test", f->mock->drm,
					current->mm, NULL, f->base,
					pages(4 * SLOT), pages(SLOT), &ops,
					gpusvm_mock_chunks, 3));
	range = drm_gpusvm_range_find_or_insert(gpusvm, addr, 0, ULONG_MAX,
						&ctx);
	KUNIT_ASSERT_FALSE(test, IS_ERR(range));
	KUNIT_EXPECT_EQ(test, drm_gpusvm_range_get_pages(gpusvm, range, &ctx),
			0);
	gpusvm_mock_expect_mapped(range, false);
	/* The driver did not unmap it, and still it is no longer valid. */
	gpusvm_mock_discard(addr, 9);
	KUNIT_EXPECT_FALSE(test, gpusvm_mock_valid(range));
	KUNIT_EXPECT_EQ(test, drm_gpusvm_range_get_pages(gpusvm, range, &ctx),
			0);
	gpusvm_mock_expect_mapped(range, false);
}

/*
 * The choice of chunks.
 */

/* The chunk of a page, by trying all sizes; @taken pages are in the way. */
static unsigned long chunk_reference(unsigned long page, unsigned long lo,
				     unsigned long hi, const bool *taken,
				     unsigned long *start)
{
	static const unsigned long sizes[] = { CHUNK, 4, 1 };
	unsigned int s, i;

	for (s = 0; s < ARRAY_SIZE(sizes); s++) {
		*start = page - page % sizes[s];
		for (i = 0; i < sizes[s]; i++)
			if (*start + i < lo || *start + i >= hi ||
			    (*start + i) / SLOT != page / SLOT ||
			    taken[*start + i])
				break;
		if (i == sizes[s])
			return sizes[s];
	}

	return 0;
}

struct vma_param {
	unsigned long offset, npages;
};

/* Every alignment of the start; sizes that end before, at and after borders. */
static const struct vma_param vma_params[] = {
	{ 0, 1 }, { 0, 4 }, { 0, 15 }, { 0, 16 }, { 0, 17 }, { 0, 64 },
	{ 1, 3 }, { 1, 4 }, { 1, 33 }, { 2, 14 }, { 3, 13 }, { 3, 30 },
	{ 4, 12 }, { 5, 40 }, { 7, 7 }, { 8, 8 }, { 15, 2 }, { 15, 34 },
	{ 16, 16 }, { 31, 1 }, { 47, 34 }, { 60, 8 }, { 63, 2 }, { 63, 66 },
};

static void vma_desc(const struct vma_param *p, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "%lu pages at %lu", p->npages,
		 p->offset);
}

KUNIT_ARRAY_PARAM(vma, vma_params, vma_desc);

/* Succeeds if a range around each page is as the reference says. */
static void drm_gpusvm_test_chunk(struct kunit *test)
{
	const struct vma_param *p = test->param_value;
	struct gpusvm_mock *mock = setup(test, p->offset, p->npages);
	const bool taken[4 * SLOT] = {};
	unsigned long page, size, start;
	struct drm_gpusvm_range *range;

	for (page = p->offset; page < p->offset + p->npages; page++) {
		size = chunk_reference(page, p->offset, p->offset + p->npages,
				       taken, &start);
		range = gpusvm_mock_range(mock, at(test, page) + 123);
		KUNIT_EXPECT_EQ(test, drm_gpusvm_range_start(range),
				at(test, start));
		KUNIT_EXPECT_EQ(test, drm_gpusvm_range_size(range),
				pages(size));
		KUNIT_EXPECT_EQ(test, drm_gpusvm_range_end(range),
				at(test, start + size));
		KUNIT_EXPECT_EQ(test, gpusvm_mock_notifiers(mock), 1);
		gpusvm_mock_remove(range);
		KUNIT_EXPECT_EQ(test, gpusvm_mock_notifiers(mock), 0);
	}
}

/*
 * Succeeds if ranges are made around random pages as the reference says until
 * there is no room left, do not overlap, and are found again.
 */
static void drm_gpusvm_test_chunk_fill(struct kunit *test)
{
	const struct vma_param *p = test->param_value;
	struct gpusvm_mock *mock = setup(test, p->offset, p->npages);
	unsigned long page, size, start, left = p->npages, i;
	bool *taken = kunit_kcalloc(test, 4 * SLOT, sizeof(*taken), GFP_KERNEL);
	struct drm_gpusvm_range *range;
	struct rnd_state rnd;

	KUNIT_ASSERT_NOT_NULL(test, taken);
	prandom_seed_state(&rnd, p->offset * 1000 + p->npages);

	/* At random for some time, then what is left over. */
	for (i = 0; left; i++) {
		page = p->offset + prandom_u32_state(&rnd) % p->npages;
		if (i > 4 * p->npages)
			page = p->offset + i % p->npages;
		range = gpusvm_mock_range(mock, at(test, page));
		if (taken[page]) {
			KUNIT_EXPECT_LE(test, drm_gpusvm_range_start(range),
					at(test, page));
			KUNIT_EXPECT_GT(test, drm_gpusvm_range_end(range),
					at(test, page));
			continue;
		}
		size = chunk_reference(page, p->offset, p->offset + p->npages,
				       taken, &start);
		KUNIT_EXPECT_EQ(test, drm_gpusvm_range_start(range),
				at(test, start));
		KUNIT_ASSERT_EQ(test, drm_gpusvm_range_size(range),
				pages(size));
		memset(taken + start, true, size);
		left -= size;
	}
}

struct gpuva_param {
	const char *desc;
	unsigned long page, start, end, size;
	int err;
};

/* In a VMA of two slots. */
static const struct gpuva_param gpuva_params[] = {
	{ "all", 17, 0, 4 * SLOT, CHUNK, 0 },
	{ "exactly the chunk", 17, 16, 32, CHUNK, 0 },
	{ "starts in the chunk", 20, 17, 64, 4, 0 },
	{ "ends in the chunk", 20, 0, 31, 4, 0 },
	{ "page of its own", 20, 20, 21, 1, 0 },
	{ "ends at the page", 20, 0, 20, 0, -EINVAL },
	{ "starts after the page", 20, 21, 64, 0, -EINVAL },
	{ "empty", 20, 20, 20, 0, -EINVAL },
};

KUNIT_ARRAY_PARAM_DESC(gpuva, gpuva_params, desc);

/* Succeeds if the range stays within the caller's bounds. */
static void drm_gpusvm_test_gpuva(struct kunit *test)
{
	const struct gpuva_param *p = test->param_value;
	struct gpusvm_mock *mock = setup(test, 0, 2 * SLOT);
	struct drm_gpusvm_ctx ctx = {};
	struct drm_gpusvm_range *range;

	mutex_lock(&mock->lock);
	range = drm_gpusvm_range_find_or_insert(&mock->gpusvm,
						at(test, p->page),
						at(test, p->start),
						at(test, p->end), &ctx);
	mutex_unlock(&mock->lock);
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(range), p->err);
	if (!p->err)
		KUNIT_EXPECT_EQ(test, drm_gpusvm_range_size(range),
				pages(p->size));
	KUNIT_EXPECT_EQ(test, gpusvm_mock_notifiers(mock), !p->err);
}

/* Succeeds if a gap too small for any chunk is refused, and leaves nothing. */
static void drm_gpusvm_test_no_chunk(struct kunit *test)
{
	struct fixture *f = test->priv;
	struct drm_gpusvm_range *range;

	KUNIT_ASSERT_EQ(test, 0,
			gpusvm_mock_init_chunks(f->mock, f->base,
						f->base + pages(SLOT),
						pages(SLOT),
						gpusvm_mock_chunks, 2));
	map(test, 1, 2, RW);
	map(test, 5, 7, RW);
	range = gpusvm_mock_insert(f->mock, at(test, 1));
	KUNIT_EXPECT_EQ(test, PTR_ERR(range), -EINVAL);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_notifiers(f->mock), 0);
	range = gpusvm_mock_range(f->mock, at(test, 9));
	KUNIT_EXPECT_EQ(test, drm_gpusvm_range_size(range), pages(4));
	range = gpusvm_mock_insert(f->mock, at(test, 7));
	KUNIT_EXPECT_EQ(test, PTR_ERR(range), -EINVAL);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_notifiers(f->mock), 1);
}

struct threshold_param {
	const char *desc;
	unsigned long threshold, first, npages, size;
};

/* Pages first to first + npages of a chunk are present, and 5 is asked for. */
static const struct threshold_param threshold_params[] = {
	{ "none asked", 0, 0, 0, 16 },
	{ "all present", 16, 0, 16, 16 },
	{ "last missing", 16, 0, 15, 4 },
	{ "first missing", 16, 1, 15, 4 },
	{ "beyond the threshold, untouched", 4, 0, 0, 16 },
	{ "just beyond the threshold", 15, 0, 0, 16 },
	{ "at the threshold, untouched", 16, 0, 0, 1 },
	{ "below the threshold, untouched", 32, 0, 0, 1 },
	{ "smallest only, untouched", 1, 0, 0, 16 },
	{ "four present", 16, 4, 4, 4 },
	{ "three present", 16, 4, 3, 1 },
	{ "one present", 16, 5, 1, 1 },
};

KUNIT_ARRAY_PARAM_DESC(threshold, threshold_params, desc);

/*
 * Succeeds if a chunk up to and including the threshold is chosen only with all
 * of its pages present, and a larger one without a check.
 */
static void drm_gpusvm_test_threshold(struct kunit *test)
{
	const struct threshold_param *p = test->param_value;
	struct gpusvm_mock *mock = setup(test, 0, 64);
	struct drm_gpusvm_ctx ctx = {
		.check_pages_threshold = pages(p->threshold),
	};
	struct drm_gpusvm_range *range;

	KUNIT_ASSERT_EQ(test, gpusvm_mock_touch(at(test, p->first), p->npages),
			0);
	range = gpusvm_mock_insert_ctx(mock, at(test, 5), &ctx);
	KUNIT_ASSERT_FALSE(test, IS_ERR(range));
	KUNIT_EXPECT_EQ(test, drm_gpusvm_range_size(range), pages(p->size));
}

/* Succeeds if the smallest chunk is chosen without memory for the check. */
static void drm_gpusvm_test_threshold_no_memory(struct kunit *test)
{
	struct gpusvm_mock *mock = setup(test, 0, 64);
	struct drm_gpusvm_ctx ctx = { .check_pages_threshold = pages(16), };
	struct drm_gpusvm_range *range;

	KUNIT_ASSERT_EQ(test, gpusvm_mock_touch(at(test, 0), 64), 0);
	mock->fail_step = DRM_GPUSVM_STEP_PFNS;
	range = gpusvm_mock_insert_ctx(mock, at(test, 5), &ctx);
	KUNIT_ASSERT_FALSE(test, IS_ERR(range));
	KUNIT_EXPECT_EQ(test, drm_gpusvm_range_size(range), pages(1));
}

/*
 * Notifiers.
 */

/* Succeeds if slots smaller than the largest chunk get a smaller one. */
static void drm_gpusvm_test_notifier_small(struct kunit *test)
{
	struct fixture *f = test->priv;
	struct drm_gpusvm_range *range;
	unsigned long page;

	KUNIT_ASSERT_EQ(test, 0,
			gpusvm_mock_init_chunks(f->mock, f->base,
						f->base + pages(4 * SLOT),
						pages(8), gpusvm_mock_chunks,
						3));
	map(test, 0, 64, RW);
	for (page = 0; page < 16; page += 4) {
		range = gpusvm_mock_range(f->mock, at(test, page + 3));
		KUNIT_EXPECT_EQ(test, drm_gpusvm_range_start(range),
				at(test, page));
		KUNIT_EXPECT_EQ(test, drm_gpusvm_range_size(range), pages(4));
		KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), 0);
		gpusvm_mock_expect_mapped(range, false);
	}
	KUNIT_EXPECT_EQ(test, gpusvm_mock_notifiers(f->mock), 2);
}

/* Succeeds if ranges share the notifier of their slot, and only that. */
static void drm_gpusvm_test_notifier_shared(struct kunit *test)
{
	struct gpusvm_mock *mock = setup(test, 0, 3 * SLOT);
	struct drm_gpusvm_range *a, *b, *c;

	a = gpusvm_mock_range(mock, at(test, 0));
	b = gpusvm_mock_range(mock, at(test, SLOT - 1));
	c = gpusvm_mock_range(mock, at(test, SLOT));
	KUNIT_EXPECT_PTR_EQ(test, a->notifier, b->notifier);
	KUNIT_EXPECT_PTR_NE(test, a->notifier, c->notifier);
	KUNIT_EXPECT_EQ(test, drm_gpusvm_notifier_start(c->notifier),
			at(test, SLOT));
	KUNIT_EXPECT_EQ(test, drm_gpusvm_notifier_end(c->notifier),
			at(test, 2 * SLOT));
	KUNIT_EXPECT_EQ(test, drm_gpusvm_notifier_size(c->notifier),
			pages(SLOT));
	KUNIT_EXPECT_EQ(test, gpusvm_mock_notifiers(mock), 2);
	gpusvm_mock_remove(a);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_notifiers(mock), 2);
	gpusvm_mock_remove(b);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_notifiers(mock), 1);
	gpusvm_mock_remove(c);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_notifiers(mock), 0);
}

static const long border_params[] = { -1, 0, 1 };

static void border_desc(const long *p, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "byte %ld", *p);
}

KUNIT_ARRAY_PARAM(border, border_params, border_desc);

/*
 * Succeeds if an address next to a border gets the notifier of its own slot,
 * while there is one in the slots on either side, or in both.
 */
static void drm_gpusvm_test_notifier_border(struct kunit *test)
{
	const long byte = *(const long *)test->param_value;
	struct gpusvm_mock *mock = setup(test, 0, 4 * SLOT);
	struct drm_gpusvm_range *before = NULL, *after = NULL, *range;
	unsigned long addr = at(test, 2 * SLOT) + byte;
	unsigned long slot = byte < 0 ? SLOT : 2 * SLOT;
	unsigned int with;

	for (with = 0; with < 4; with++) {
		if (with & 1)
			before = gpusvm_mock_range(mock, at(test, slot) - 1);
		if (with & 2)
			after = gpusvm_mock_range(mock, at(test, slot + SLOT));

		range = gpusvm_mock_range(mock, addr);
		KUNIT_EXPECT_EQ(test, at(test, slot),
				drm_gpusvm_notifier_start(range->notifier));
		KUNIT_EXPECT_LE(test, drm_gpusvm_range_start(range), addr);
		KUNIT_EXPECT_GT(test, drm_gpusvm_range_end(range), addr);
		KUNIT_EXPECT_EQ(test, drm_gpusvm_range_size(range),
				pages(CHUNK));
		KUNIT_EXPECT_EQ(test, gpusvm_mock_notifiers(mock),
				1 + hweight32(with));

		gpusvm_mock_remove(range);
		if (with & 1)
			gpusvm_mock_remove(before);
		if (with & 2)
			gpusvm_mock_remove(after);
		KUNIT_EXPECT_EQ(test, gpusvm_mock_notifiers(mock), 0);
	}
}

/* Succeeds if addresses that are not mirrored have no range, to the byte. */
static void drm_gpusvm_test_outside(struct kunit *test)
{
	struct fixture *f = test->priv;

	map(test, 0, 2 * SLOT, RW);
	KUNIT_ASSERT_EQ(test, 0,
			gpusvm_mock_init_chunks(f->mock, at(test, 5),
						at(test, 75), pages(SLOT),
						gpusvm_mock_chunks, 3));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			PTR_ERR(gpusvm_mock_insert(f->mock, at(test, 5) - 1)));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			PTR_ERR(gpusvm_mock_insert(f->mock, at(test, 75))));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			PTR_ERR(gpusvm_mock_insert(f->mock, 0)));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			PTR_ERR(gpusvm_mock_insert(f->mock, ULONG_MAX)));
	KUNIT_EXPECT_EQ(test, gpusvm_mock_notifiers(f->mock), 0);
	gpusvm_mock_range(f->mock, at(test, 5));
	gpusvm_mock_range(f->mock, at(test, 75) - 1);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_notifiers(f->mock), 2);
}

/* Succeeds if there is no range where nothing is mapped. */
static void drm_gpusvm_test_no_vma(struct kunit *test)
{
	struct gpusvm_mock *mock = setup(test, 8, 8);

	KUNIT_EXPECT_EQ(test, -ENOENT,
			PTR_ERR(gpusvm_mock_insert(mock, at(test, 8) - 1)));
	KUNIT_EXPECT_EQ(test, -ENOENT,
			PTR_ERR(gpusvm_mock_insert(mock, at(test, 16))));
	KUNIT_EXPECT_EQ(test, gpusvm_mock_notifiers(mock), 0);
}

/* Succeeds if memory that cannot be written gets a range only for reading. */
static void drm_gpusvm_test_not_writable(struct kunit *test)
{
	const struct drm_gpusvm_ctx read = { .read_only = true };
	struct gpusvm_mock *mock = setup(test, 0, 0);
	struct drm_gpusvm_range *range;

	map(test, 0, 16, PROT_READ);
	KUNIT_EXPECT_EQ(test, -EPERM,
			PTR_ERR(gpusvm_mock_insert(mock, at(test, 0))));
	KUNIT_EXPECT_EQ(test, gpusvm_mock_notifiers(mock), 0);
	range = gpusvm_mock_insert_ctx(mock, at(test, 0), &read);
	KUNIT_ASSERT_FALSE(test, IS_ERR(range));
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, true), 0);
	gpusvm_mock_expect_mapped(range, true);
	gpusvm_mock_unmap(range);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), -EPERM);
	gpusvm_mock_expect_unmapped(range);
}

static const int step_params[] = {
	DRM_GPUSVM_STEP_NOTIFIER, DRM_GPUSVM_STEP_RANGE,
};

static void step_desc(const int *p, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "step %d", *p);
}

KUNIT_ARRAY_PARAM(step, step_params, step_desc);

/* Succeeds if a failed allocation leaves nothing, and the next try works. */
static void drm_gpusvm_test_insert_no_memory(struct kunit *test)
{
	struct gpusvm_mock *mock = setup(test, 0, 64);

	mock->fail_step = *(const int *)test->param_value;
	KUNIT_EXPECT_EQ(test, -ENOMEM,
			PTR_ERR(gpusvm_mock_insert(mock, at(test, 0))));
	KUNIT_EXPECT_EQ(test, gpusvm_mock_notifiers(mock), 0);
	mock->fail_step = -1;
	gpusvm_mock_range(mock, at(test, 0));
	KUNIT_EXPECT_EQ(test, gpusvm_mock_notifiers(mock), 1);
}

/*
 * Ranges.
 */

/* Succeeds if a range is initialized, whatever the driver's memory held. */
static void drm_gpusvm_test_range_new(struct kunit *test)
{
	struct gpusvm_mock *mock = setup(test, 0, 64);
	struct drm_gpusvm_range *range = gpusvm_mock_range(mock, at(test, 0));

	KUNIT_EXPECT_PTR_EQ(test, range->gpusvm, &mock->gpusvm);
	KUNIT_EXPECT_EQ(test, kref_read(&range->refcount), 1);
	KUNIT_EXPECT_TRUE(test, range->flags.migrate_devmem);
	KUNIT_EXPECT_FALSE(test, range->notifier->flags.removed);
	KUNIT_EXPECT_FALSE(test, range->flags.unmapped);
	KUNIT_EXPECT_FALSE(test, range->flags.partial_unmap);
	KUNIT_EXPECT_NULL(test, range->dma_addr);
	gpusvm_mock_expect_unmapped(range);
	/* The second call finds the same range. */
	KUNIT_EXPECT_PTR_EQ(test, range,
			    gpusvm_mock_range(mock, at(test, 1) - 1));
	KUNIT_EXPECT_EQ(test, kref_read(&range->refcount), 1);
}

/* Succeeds if migration is possible only where caller and memory allow it. */
static void drm_gpusvm_test_range_migrate(struct kunit *test)
{
	const struct drm_gpusvm_ctx no = {};
	struct gpusvm_mock *mock = setup(test, 0, 64);
	struct drm_gpusvm_range *range;

	range = gpusvm_mock_insert_ctx(mock, at(test, 0), &no);
	KUNIT_ASSERT_FALSE(test, IS_ERR(range));
	KUNIT_EXPECT_FALSE(test, range->flags.migrate_devmem);
	range = gpusvm_mock_range(mock, at(test, 16));
	KUNIT_EXPECT_TRUE(test, range->flags.migrate_devmem);

	KUNIT_ASSERT_EQ(test, at(test, 64),
			vm_mmap(NULL, at(test, 64), pages(64), RW,
				MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, 0));
	range = gpusvm_mock_range(mock, at(test, 64));
	KUNIT_EXPECT_FALSE(test, range->flags.migrate_devmem);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), 0);
	gpusvm_mock_expect_mapped(range, false);
}

/* Succeeds if ranges are found by any overlap, and visited in order. */
static void drm_gpusvm_test_range_find(struct kunit *test)
{
	static const unsigned int order[] = { 33, 2, 50, 17 };
	struct gpusvm_mock *mock = setup(test, 0, 4 * SLOT);
	struct drm_gpusvm_range *range[4], *it = NULL;
	struct drm_gpusvm_notifier *notifier;
	unsigned long last = 0;
	unsigned int i, n = 0;

	for (i = 0; i < 4; i++)
		range[i] = gpusvm_mock_range(mock, at(test, order[i]));
	gpusvm_mock_range(mock, at(test, 3 * SLOT));
	gpusvm_mock_remove(range[2]);	/* chunks 0, 1 and 2 are left of 4 */

	mutex_lock(&mock->lock);
	notifier = range[0]->notifier;
	drm_gpusvm_for_each_range(it, notifier, 0, ULONG_MAX) {
		KUNIT_EXPECT_GE(test, drm_gpusvm_range_start(it), last);
		last = drm_gpusvm_range_end(it);
		n++;
	}
	KUNIT_EXPECT_EQ(test, n, 3);

	it = range[0];
	n = 0;
	drm_gpusvm_for_each_range(it, notifier, 0, ULONG_MAX)
		n++;
	KUNIT_EXPECT_EQ(test, n, 1);
	it = NULL;
	drm_gpusvm_for_each_range(it, notifier, at(test, 15), at(test, 16) + 1)
		n++;
	KUNIT_EXPECT_EQ(test, n, 3);

	KUNIT_EXPECT_PTR_EQ(test, range[3],
			    drm_gpusvm_range_find(notifier, at(test, 31),
						  at(test, 33)));
	KUNIT_EXPECT_PTR_EQ(test, range[0],
			    drm_gpusvm_range_find(notifier, at(test, 32),
						  at(test, 32) + 1));
	KUNIT_EXPECT_NULL(test, drm_gpusvm_range_find(notifier, at(test, 48),
						      at(test, 64)));
	KUNIT_EXPECT_NULL(test, drm_gpusvm_range_find(notifier, at(test, 8),
						      at(test, 8)));
	KUNIT_EXPECT_TRUE(test, drm_gpusvm_has_mapping(&mock->gpusvm,
						       at(test, 48) - 1,
						       at(test, 64)));
	KUNIT_EXPECT_FALSE(test, drm_gpusvm_has_mapping(&mock->gpusvm,
							at(test, 48),
							at(test, 3 * SLOT)));
	KUNIT_EXPECT_TRUE(test, drm_gpusvm_has_mapping(&mock->gpusvm,
						       at(test, 48),
						       at(test, 3 * SLOT) + 1));
	KUNIT_EXPECT_FALSE(test, drm_gpusvm_has_mapping(&mock->gpusvm,
							at(test, 4),
							at(test, 4)));
	mutex_unlock(&mock->lock);
}

/* Succeeds if the first mapping that overlaps is found. */
static void drm_gpusvm_test_find_vma_start(struct kunit *test)
{
	struct gpusvm_mock *mock = setup(test, 8, 8);
	struct drm_gpusvm *gpusvm = &mock->gpusvm;

	map(test, 32, 8, PROT_READ);
	KUNIT_EXPECT_EQ(test, at(test, 8),
			drm_gpusvm_find_vma_start(gpusvm, at(test, 0),
						  at(test, 64)));
	KUNIT_EXPECT_EQ(test, at(test, 8),
			drm_gpusvm_find_vma_start(gpusvm, at(test, 16) - 1,
						  at(test, 64)));
	KUNIT_EXPECT_EQ(test, at(test, 32),
			drm_gpusvm_find_vma_start(gpusvm, at(test, 16),
						  at(test, 64)));
	KUNIT_EXPECT_EQ(test, ULONG_MAX,
			drm_gpusvm_find_vma_start(gpusvm, at(test, 16),
						  at(test, 32)));
	KUNIT_EXPECT_EQ(test, ULONG_MAX,
			drm_gpusvm_find_vma_start(gpusvm, at(test, 8),
						  at(test, 8)));
}

struct unmap_param {
	const char *desc;
	unsigned long first, npages;
	bool unmapped, partial;
};

/* Unmapped pages around a range of the pages 16 to 31. */
static const struct unmap_param unmap_params[] = {
	{ "exactly", 16, 16, true, false },
	{ "more before", 8, 24, true, false },
	{ "more after", 16, 24, true, false },
	{ "more on both sides", 8, 32, true, false },
	{ "first half", 16, 8, true, true },
	{ "second half", 24, 8, true, true },
	{ "middle", 20, 4, true, true },
	{ "first page", 16, 1, true, true },
	{ "last page", 31, 1, true, true },
	{ "before and first page", 8, 9, true, true },
	{ "last page and after", 31, 9, true, true },
	{ "just before", 8, 8, false, false },
	{ "just after", 32, 8, false, false },
};

KUNIT_ARRAY_PARAM_DESC(unmap, unmap_params, desc);

/*
 * Succeeds if a range that is unmapped, as a whole or in part, says so and is
 * collected, and the rest of the memory can be mapped again.
 */
static void drm_gpusvm_test_munmap(struct kunit *test)
{
	const struct unmap_param *p = test->param_value;
	struct gpusvm_mock *mock = setup(test, 0, 64);
	struct drm_gpusvm_range *range = gpusvm_mock_range(mock, at(test, 16));
	unsigned long page;
	int want, err;

	KUNIT_ASSERT_EQ(test, gpusvm_mock_get(range, false), 0);
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(at(test, p->first),
					   pages(p->npages)));
	KUNIT_EXPECT_EQ(test, !!range->flags.unmapped, p->unmapped);
	KUNIT_EXPECT_EQ(test, !!range->flags.partial_unmap, p->partial);
	KUNIT_EXPECT_TRUE(test, range->flags.migrate_devmem);
	if (!p->unmapped) {
		gpusvm_mock_expect_mapped(range, false);
		return;
	}

	gpusvm_mock_expect_unmapped(range);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), -EFAULT);
	gpusvm_mock_expect_unmapped(range);

	for (page = 16; page < 32; page++) {
		want = page >= p->first && page < p->first + p->npages ?
		       -ENOENT : 0;
		err = gpusvm_example_fault(mock, at(test, page), true);
		KUNIT_EXPECT_EQ(test, err, want);
	}
	gpusvm_mock_check_pt(mock);
}

/* Succeeds if a range that is unmapped half by half was unmapped in part. */
static void drm_gpusvm_test_munmap_twice(struct kunit *test)
{
	struct gpusvm_mock *mock = setup(test, 0, 64);
	struct drm_gpusvm_range *range = gpusvm_mock_range(mock, at(test, 16));

	KUNIT_ASSERT_EQ(test, vm_munmap(at(test, 16), pages(8)), 0);
	KUNIT_ASSERT_EQ(test, vm_munmap(at(test, 24), pages(8)), 0);
	KUNIT_EXPECT_TRUE(test, range->flags.unmapped);
	KUNIT_EXPECT_TRUE(test, range->flags.partial_unmap);
	KUNIT_EXPECT_EQ(test, mock->last_event, MMU_NOTIFY_UNMAP);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_evict(range), 0);
}

/* Succeeds if a reference keeps a removed range allocated, but unusable. */
static void drm_gpusvm_test_range_reference(struct kunit *test)
{
	struct gpusvm_mock *mock = setup(test, 0, 64);
	struct drm_gpusvm_range *range = gpusvm_mock_range(mock, at(test, 16));

	KUNIT_ASSERT_EQ(test, gpusvm_mock_get(range, false), 0);
	KUNIT_EXPECT_PTR_EQ(test, drm_gpusvm_range_get(range), range);
	gpusvm_mock_remove(range);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_num_maps(mock), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&mock->ranges), 1);
	KUNIT_EXPECT_TRUE(test, range->flags.unmapped);
	gpusvm_mock_expect_unmapped(range);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), -EFAULT);
	gpusvm_mock_unmap(range);
	drm_gpusvm_range_put(range);
	KUNIT_EXPECT_EQ(test, atomic_read(&mock->ranges), 0);
}

/* Succeeds if everything goes at once, and ranges can be made again. */
static void drm_gpusvm_test_free(struct kunit *test)
{
	struct gpusvm_mock *mock = setup(test, 0, 4 * SLOT);
	unsigned int i, round;

	for (round = 0; round < 2; round++) {
		for (i = 0; i < 4 * SLOT; i += 10)
			KUNIT_EXPECT_EQ(test, 0,
					gpusvm_example_fault(mock, at(test, i),
							     true));
		KUNIT_EXPECT_EQ(test, gpusvm_mock_notifiers(mock), 4);
		mutex_lock(&mock->lock);
		gpusvm_mock_free(mock);
		mutex_unlock(&mock->lock);
		KUNIT_EXPECT_EQ(test, gpusvm_mock_notifiers(mock), 0);
		KUNIT_EXPECT_EQ(test, atomic_read(&mock->ranges), 0);
		KUNIT_EXPECT_EQ(test, gpusvm_mock_num_maps(mock), 0);
		/* The driver zaps for itself, and gets no more callbacks. */
		mock->invalidations = 0;
		gpusvm_mock_discard(at(test, 0), 4 * SLOT);
		KUNIT_EXPECT_EQ(test, mock->invalidations, 0);
	}
}

/* Succeeds if the driver's lock is not needed while there is no range. */
static void drm_gpusvm_test_fini_unlocked(struct kunit *test)
{
	struct gpusvm_mock *mock = setup(test, 0, 64);

	drm_gpusvm_free(&mock->gpusvm);
	gpusvm_mock_remove(gpusvm_mock_range(mock, at(test, 5)));
	drm_gpusvm_free(&mock->gpusvm);
	drm_gpusvm_fini(&mock->gpusvm);
}

static struct kunit_case gpusvm_range_cases[] = {
	KUNIT_CASE_PARAM(drm_gpusvm_test_setup, init_gen_params),
	KUNIT_CASE(drm_gpusvm_test_setup_ops),
	KUNIT_CASE(drm_gpusvm_test_bare_ops),
	KUNIT_CASE_PARAM(drm_gpusvm_test_chunk, vma_gen_params),
	KUNIT_CASE_PARAM(drm_gpusvm_test_chunk_fill, vma_gen_params),
	KUNIT_CASE_PARAM(drm_gpusvm_test_gpuva, gpuva_gen_params),
	KUNIT_CASE(drm_gpusvm_test_no_chunk),
	KUNIT_CASE_PARAM(drm_gpusvm_test_threshold, threshold_gen_params),
	KUNIT_CASE(drm_gpusvm_test_threshold_no_memory),
	KUNIT_CASE(drm_gpusvm_test_notifier_small),
	KUNIT_CASE(drm_gpusvm_test_notifier_shared),
	KUNIT_CASE_PARAM(drm_gpusvm_test_notifier_border, border_gen_params),
	KUNIT_CASE(drm_gpusvm_test_outside),
	KUNIT_CASE(drm_gpusvm_test_no_vma),
	KUNIT_CASE(drm_gpusvm_test_not_writable),
	KUNIT_CASE_PARAM(drm_gpusvm_test_insert_no_memory, step_gen_params),
	KUNIT_CASE(drm_gpusvm_test_range_new),
	KUNIT_CASE(drm_gpusvm_test_range_migrate),
	KUNIT_CASE(drm_gpusvm_test_range_find),
	KUNIT_CASE(drm_gpusvm_test_find_vma_start),
	KUNIT_CASE_PARAM(drm_gpusvm_test_munmap, unmap_gen_params),
	KUNIT_CASE(drm_gpusvm_test_munmap_twice),
	KUNIT_CASE(drm_gpusvm_test_range_reference),
	KUNIT_CASE(drm_gpusvm_test_free),
	KUNIT_CASE(drm_gpusvm_test_fini_unlocked),
	{}
};

static struct kunit_suite gpusvm_range_suite = {
	.name = "drm_gpusvm_range",
	.init = drm_gpusvm_test_init,
	.exit = drm_gpusvm_test_exit,
	.test_cases = gpusvm_range_cases,
};

/*
 * Pages.
 */

struct get_param {
	const char *desc;
	bool touch, read_only;
};

static const struct get_param get_params[] = {
	{ "written, to write", true, false },
	{ "written, to read", true, true },
	{ "never touched, to write", false, false },
	{ "never touched, to read", false, true },
};

KUNIT_ARRAY_PARAM_DESC(get, get_params, desc);

/* Succeeds if the device reaches the process's pages, mapped only once. */
static void drm_gpusvm_test_get(struct kunit *test)
{
	const struct get_param *p = test->param_value;
	struct gpusvm_mock *mock = setup(test, 0, 64);
	struct drm_gpusvm_range *range = gpusvm_mock_range(mock, at(test, 16));
	struct mmu_interval_notifier *mni = &range->notifier->notifier;
	struct page *page;
	unsigned int calls;

	if (p->touch)
		KUNIT_ASSERT_EQ(test, gpusvm_mock_touch(at(test, 0), 64), 0);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, p->read_only), 0);
	gpusvm_mock_expect_mapped(range, p->read_only);
	calls = mock->map_calls;
	KUNIT_EXPECT_GE(test, calls, 1);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_find_map(mock, 0).addr, 0);
	KUNIT_ASSERT_NE(test, gpusvm_mock_find_map(mock, 0).size, 0);
	/* Reclaim must not drop memory that the device writes as clean. */
	page = gpusvm_mock_find_map(mock, 0).page;
	KUNIT_EXPECT_EQ(test, folio_test_dirty(page_folio(page)),
			!p->read_only);
	KUNIT_EXPECT_FALSE(test, mmu_interval_read_retry(mni,
							 range->notifier_seq));

	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, p->read_only), 0);
	KUNIT_EXPECT_EQ(test, mock->map_calls, calls);

	gpusvm_mock_unmap(range);
	gpusvm_mock_expect_unmapped(range);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_num_maps(mock), 0);
	gpusvm_mock_unmap(range);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, p->read_only), 0);
	gpusvm_mock_expect_mapped(range, p->read_only);

	gpusvm_mock_discard(at(test, 16), 1);
	KUNIT_EXPECT_TRUE(test, mmu_interval_read_retry(mni,
							range->notifier_seq));
}

/* Succeeds if the GPU drops a mapping for reading before it can write. */
static void drm_gpusvm_test_get_upgrade(struct kunit *test)
{
	struct gpusvm_mock *mock = setup(test, 0, 64);
	struct drm_gpusvm_range *range = gpusvm_mock_range(mock, at(test, 16));
	bool lazy;

	for (lazy = false; ; lazy = true) {
		mock->lazy = lazy;
		KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, true), 0);
		gpusvm_mock_expect_mapped(range, true);
		mock->invalidations = 0;
		mock->looks = 0;
		KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), 0);
		KUNIT_EXPECT_GE(test, mock->invalidations, 1);
		/* The zap is no change of the process's memory. */
		if (lazy)
			KUNIT_EXPECT_EQ(test, mock->looks, 1);
		gpusvm_mock_expect_mapped(range, false);
		/* A mapping for writing serves readers. */
		mock->invalidations = 0;
		KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, true), 0);
		KUNIT_EXPECT_EQ(test, mock->invalidations, 0);
		gpusvm_mock_expect_mapped(range, false);
		gpusvm_mock_unmap(range);
		if (lazy)
			break;
	}
}

/*
 * Succeeds if a change of memory invalidates its range, and no other, and if the
 * driver is asked while the range is still valid.
 */
static void drm_gpusvm_test_invalidate(struct kunit *test)
{
	struct gpusvm_mock *mock = setup(test, 0, 64);
	struct drm_gpusvm_range *a = gpusvm_mock_range(mock, at(test, 16));
	struct drm_gpusvm_range *b = gpusvm_mock_range(mock, at(test, 32));
	unsigned int round;

	for (round = 0; round < 2; round++) {
		mock->lazy = round;
		KUNIT_EXPECT_EQ(test, gpusvm_mock_get(a, false), 0);
		KUNIT_EXPECT_EQ(test, gpusvm_mock_get(b, false), 0);
		gpusvm_mock_discard(at(test, 31), 1);
		KUNIT_EXPECT_EQ(test, mock->last_valid, 1);
		KUNIT_EXPECT_FALSE(test, gpusvm_mock_valid(a));
		gpusvm_mock_expect_mapped(b, false);
		KUNIT_EXPECT_FALSE(test, a->flags.unmapped);
		KUNIT_EXPECT_EQ(test, gpusvm_mock_get(a, false), 0);
		gpusvm_mock_expect_mapped(a, false);
		gpusvm_mock_discard(at(test, 31), 2);
		KUNIT_EXPECT_EQ(test, mock->last_valid, 2);
		KUNIT_EXPECT_FALSE(test, gpusvm_mock_valid(a));
		KUNIT_EXPECT_FALSE(test, gpusvm_mock_valid(b));
	}
}

/*
 * Succeeds if an invalidation that must not sleep is refused, and changes
 * nothing, since the caller gives up.
 */
static void drm_gpusvm_test_nonblocking(struct kunit *test)
{
	struct gpusvm_mock *mock = setup(test, 0, 64);
	struct drm_gpusvm_range *range = gpusvm_mock_range(mock, at(test, 16));
	struct mmu_interval_notifier *mni = &range->notifier->notifier;
	struct mmu_notifier_range mmu_range;

	mmu_notifier_range_init(&mmu_range, MMU_NOTIFY_CLEAR, 0, current->mm,
				at(test, 16), at(test, 17));
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), 0);
	mock->invalidations = 0;
	KUNIT_EXPECT_FALSE(test, mni->ops->invalidate(mni, &mmu_range,
						      mni->invalidate_seq));
	KUNIT_EXPECT_EQ(test, mock->invalidations, 0);
	gpusvm_mock_expect_mapped(range, false);
}

/* Succeeds if each mapping may fail, and those before it are undone. */
static void drm_gpusvm_test_map_fails(struct kunit *test)
{
	struct gpusvm_mock *mock = setup(test, 0, 64);
	struct drm_gpusvm_range *range = gpusvm_mock_range(mock, at(test, 16));
	unsigned int k;
	int err;

	KUNIT_ASSERT_EQ(test, gpusvm_mock_touch(at(test, 16), 16), 0);
	for (k = 1; k < 100; k++) {
		mock->map_calls = 0;
		mock->fail_map = k;
		err = gpusvm_mock_get(range, false);
		if (!err)
			break;
		KUNIT_EXPECT_EQ(test, err, -EFAULT);
		KUNIT_EXPECT_EQ(test, mock->map_calls, k);
		KUNIT_EXPECT_EQ(test, gpusvm_mock_num_maps(mock), 0);
		gpusvm_mock_expect_unmapped(range);
	}
	KUNIT_EXPECT_GE(test, k, 2);
	KUNIT_EXPECT_EQ(test, mock->map_calls, k - 1);
	gpusvm_mock_expect_mapped(range, false);
}

static const int get_step_params[] = {
	DRM_GPUSVM_STEP_PFNS, DRM_GPUSVM_STEP_ADDRS,
};

KUNIT_ARRAY_PARAM(get_step, get_step_params, step_desc);

/* Succeeds if a failed allocation maps nothing, and the next try works. */
static void drm_gpusvm_test_get_no_memory(struct kunit *test)
{
	struct gpusvm_mock *mock = setup(test, 0, 64);
	struct drm_gpusvm_range *range = gpusvm_mock_range(mock, at(test, 16));

	mock->fail_step = *(const int *)test->param_value;
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), -ENOMEM);
	gpusvm_mock_expect_unmapped(range);
	if (mock->fail_step == DRM_GPUSVM_STEP_PFNS)
		KUNIT_EXPECT_EQ(test, gpusvm_mock_evict(range), -ENOMEM);
	mock->fail_step = -1;
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), 0);
}

/* Changes memory of the range, every time or the first few times. */
static void discard(struct gpusvm_mock *mock, void *arg)
{
	if (!arg || mock->looks <= (unsigned long)arg)
		gpusvm_mock_discard(mock->gpusvm.mm_start + pages(20), 1);
}

/* Changes memory next to the range, on either side. */
static void discard_other(struct gpusvm_mock *mock, void *arg)
{
	gpusvm_mock_discard(mock->gpusvm.mm_start + pages(15), 1);
	gpusvm_mock_discard(mock->gpusvm.mm_start + pages(32), 1);
}

/* Succeeds if the call ends though the process keeps changing its memory. */
static void drm_gpusvm_test_storm(struct kunit *test)
{
	struct gpusvm_mock *mock = setup(test, 0, 64);
	struct drm_gpusvm_range *range = gpusvm_mock_range(mock, at(test, 16));
	unsigned long begin;

	KUNIT_EXPECT_EQ(test, mock->gpusvm.timeout_ms, 1000);
	mock->gpusvm.timeout_ms = 200;
	mock->on_look = discard;
	begin = jiffies;
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), -EBUSY);
	KUNIT_EXPECT_GE(test, jiffies - begin, msecs_to_jiffies(200));
	KUNIT_EXPECT_LT(test, jiffies - begin, 10 * HZ);
	KUNIT_EXPECT_GE(test, mock->looks, 2);
	gpusvm_mock_expect_unmapped(range);
	KUNIT_EXPECT_EQ(test, mock->map_calls, 0);
}

/* Succeeds if the call succeeds once the process stops. */
static void drm_gpusvm_test_storm_ends(struct kunit *test)
{
	struct gpusvm_mock *mock = setup(test, 0, 64);
	struct drm_gpusvm_range *range = gpusvm_mock_range(mock, at(test, 16));

	mock->gpusvm.timeout_ms = 100 * 1000;
	mock->on_look = discard;
	mock->on_look_arg = (void *)3UL;
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), 0);
	KUNIT_EXPECT_EQ(test, mock->looks, 4);
	gpusvm_mock_expect_mapped(range, false);
}

/* Succeeds if changes of other memory do not matter. */
static void drm_gpusvm_test_storm_elsewhere(struct kunit *test)
{
	struct gpusvm_mock *mock = setup(test, 0, 64);
	struct drm_gpusvm_range *range = gpusvm_mock_range(mock, at(test, 16));

	mock->on_look = discard_other;
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), 0);
	KUNIT_EXPECT_EQ(test, mock->looks, 1);
	gpusvm_mock_expect_mapped(range, false);
}

/* Changes memory of the range after the first lookup. */
static void discard_once(struct gpusvm_mock *mock, void *arg)
{
	if (mock->looks > 1)
		return;
	gpusvm_mock_discard(mock->gpusvm.mm_start + pages(20), 1);
	KUNIT_EXPECT_FALSE(mock->test, gpusvm_mock_valid(arg));
}

struct changed_param {
	const char *desc;
	bool lazy, deaf, mapped;
};

static const struct changed_param changed_params[] = {
	{ "new", false, false, false },
	{ "mapped to read", false, false, true },
	{ "mapped to read, driver does not unmap", true, false, true },
	{ "new, driver does nothing", false, true, false },
	{ "mapped to read, driver does nothing", false, true, true },
};

KUNIT_ARRAY_PARAM_DESC(changed, changed_params, desc);

/*
 * Succeeds if pages that change between lookup and mapping are not mapped but
 * looked up again, whatever the driver's callback does.
 */
static void drm_gpusvm_test_changed(struct kunit *test)
{
	const struct changed_param *p = test->param_value;
	struct gpusvm_mock *mock = setup(test, 0, 64);
	struct drm_gpusvm_range *range = gpusvm_mock_range(mock, at(test, 16));

	KUNIT_ASSERT_EQ(test, gpusvm_mock_touch(at(test, 16), 16), 0);
	if (p->mapped)
		KUNIT_ASSERT_EQ(test, gpusvm_mock_get(range, true), 0);
	mock->lazy = p->lazy;
	mock->deaf = p->deaf;
	mock->looks = 0;
	mock->on_look = discard_once;
	mock->on_look_arg = range;
	mock->gpusvm.timeout_ms = 100 * 1000;
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), 0);
	KUNIT_EXPECT_EQ(test, mock->looks, 2);
	gpusvm_mock_expect_mapped(range, false);

	/* The same between the mapping and the driver's use of it. */
	gpusvm_mock_discard(at(test, 16), 1);
	KUNIT_EXPECT_FALSE(test, gpusvm_mock_valid(range));
	mock->lazy = false;
	mock->deaf = false;
}

/* Stands for another caller, under a driver's lock that is held shared. */
static void get_nested(struct gpusvm_mock *mock, void *arg)
{
	const struct drm_gpusvm_ctx ctx = { .read_only = mock->stay };

	mock->on_look = NULL;
	KUNIT_EXPECT_EQ(mock->test, 0,
			drm_gpusvm_range_get_pages(&mock->gpusvm, arg, &ctx));
	gpusvm_mock_expect_mapped(arg, mock->stay);
	mock->map_calls = 0;
	mock->invalidations = 0;
}

/* Succeeds if the second of two concurrent callers uses the first's mapping. */
static void drm_gpusvm_test_get_twice(struct kunit *test)
{
	struct gpusvm_mock *mock = setup(test, 0, 64);
	struct drm_gpusvm_range *range = gpusvm_mock_range(mock, at(test, 16));
	bool other;

	KUNIT_ASSERT_EQ(test, gpusvm_mock_touch(at(test, 16), 16), 0);
	for (other = false; ; other = true) {
		/* If the other one only reads, the range is mapped again. */
		mock->stay = other;
		mock->on_look = get_nested;
		mock->on_look_arg = range;
		KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), 0);
		gpusvm_mock_expect_mapped(range, false);
		KUNIT_EXPECT_EQ(test, mock->map_calls != 0, other);
		KUNIT_EXPECT_EQ(test, mock->invalidations != 0, other);
		gpusvm_mock_unmap(range);
		KUNIT_EXPECT_EQ(test, gpusvm_mock_num_maps(mock), 0);
		if (other)
			break;
	}
}

static void kill_me(struct gpusvm_mock *mock, void *arg)
{
	discard(mock, NULL);
	sigaddset(&current->pending.signal, SIGKILL);
	set_tsk_thread_flag(current, TIF_SIGPENDING);
}

/* Succeeds if there is no retry when the process is being killed. */
static void drm_gpusvm_test_killed(struct kunit *test)
{
	struct gpusvm_mock *mock = setup(test, 0, 64);
	struct drm_gpusvm_range *range = gpusvm_mock_range(mock, at(test, 16));
	int err;

	mock->gpusvm.timeout_ms = 100 * 1000;
	mock->on_look = kill_me;
	err = gpusvm_mock_get(range, false);
	sigdelset(&current->pending.signal, SIGKILL);
	clear_tsk_thread_flag(current, TIF_SIGPENDING);
	KUNIT_EXPECT_EQ(test, err, -EINTR);
	KUNIT_EXPECT_EQ(test, mock->looks, 1);
	gpusvm_mock_expect_unmapped(range);
}

static void munmap_half(struct gpusvm_mock *mock, void *arg)
{
	vm_munmap((unsigned long)arg, pages(8));
}

/* Succeeds if memory that is unmapped after the lookup is not mapped. */
static void drm_gpusvm_test_get_munmap(struct kunit *test)
{
	struct gpusvm_mock *mock = setup(test, 0, 64);
	struct drm_gpusvm_range *range = gpusvm_mock_range(mock, at(test, 16));

	mock->on_look = munmap_half;
	mock->on_look_arg = (void *)at(test, 16);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), -EFAULT);
	KUNIT_EXPECT_EQ(test, mock->looks, 1);
	KUNIT_EXPECT_EQ(test, mock->map_calls, 0);
	gpusvm_mock_expect_unmapped(range);
}

struct vm_flags_param {
	const char *desc;
	unsigned long set, clear;
	bool read_only;
	int err;
};

static const struct vm_flags_param vm_flags_params[] = {
	{ "VM_PFNMAP", VM_PFNMAP, 0, false, -EIO },
	{ "VM_PFNMAP, to read", VM_PFNMAP, 0, true, -EIO },
	{ "VM_IO", VM_IO, 0, false, -EIO },
	{ "not writable", 0, VM_WRITE, false, -EPERM },
	{ "not writable, to read", 0, VM_WRITE, true, 0 },
	{ "no access", 0, VM_READ | VM_WRITE | VM_EXEC, true, -EFAULT },
	{ "not readable", 0, VM_READ, false, -EFAULT },
	/* VM_SHADOW_STACK is 0 on architectures without them. */
	{ "shadow stack", VM_SHADOW_STACK, 0, false,
	  VM_SHADOW_STACK ? -EPERM : 0 },
	{ "shadow stack, to read", VM_SHADOW_STACK, 0, true, 0 },
};

KUNIT_ARRAY_PARAM_DESC(vm_flags, vm_flags_params, desc);

/* Succeeds if memory of the wrong kind is refused without retries. */
static void drm_gpusvm_test_vm_flags(struct kunit *test)
{
	const struct vm_flags_param *p = test->param_value;
	struct gpusvm_mock *mock = setup(test, 0, 64);
	struct drm_gpusvm_range *range = gpusvm_mock_range(mock, at(test, 16));
	unsigned long begin = jiffies;

	mock->gpusvm.timeout_ms = 100 * 1000;
	KUNIT_ASSERT_EQ(test, gpusvm_mock_vm_flags(at(test, 0), p->set,
						   p->clear), 0);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, p->read_only), p->err);
	KUNIT_EXPECT_LT(test, jiffies - begin, 20 * HZ);
	KUNIT_EXPECT_LE(test, mock->looks, 1);
	if (p->err)
		gpusvm_mock_expect_unmapped(range);
	KUNIT_ASSERT_EQ(test, gpusvm_mock_vm_flags(at(test, 0), p->clear,
						   p->set), 0);
}

/* Succeeds if a hole in an unmarked range is an error, not a loop. */
static void drm_gpusvm_test_hole(struct kunit *test)
{
	static const unsigned long holes[] = { 16, 20, 31 };
	struct gpusvm_mock *mock = setup(test, 0, 64);
	struct drm_gpusvm_range *range;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(holes); i++) {
		map(test, 0, 64, RW);
		range = gpusvm_mock_range(mock, at(test, 16));
		mock->deaf = true;
		KUNIT_ASSERT_EQ(test, 0, vm_munmap(at(test, holes[i]),
						   pages(1)));
		KUNIT_EXPECT_FALSE(test, range->flags.unmapped);
		KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), -EFAULT);
		gpusvm_mock_expect_unmapped(range);
		KUNIT_EXPECT_EQ(test, gpusvm_mock_evict(range), 0);
		mock->deaf = false;
		gpusvm_mock_remove(range);
	}
}

static vm_fault_t fault_no_memory(struct vm_fault *vmf)
{
	return VM_FAULT_OOM;
}

static const struct vm_operations_struct no_memory_ops = {
	.fault = fault_no_memory,
};

static void set_vm_ops(unsigned long addr,
		       const struct vm_operations_struct *ops)
{
	mmap_write_lock(current->mm);
	vma_lookup(current->mm, addr)->vm_ops = ops;
	mmap_write_unlock(current->mm);
}

/* Succeeds if a lack of memory for a page of the process is -ENOMEM. */
static void drm_gpusvm_test_fault_no_memory(struct kunit *test)
{
	struct gpusvm_mock *mock = setup(test, 0, 64);
	struct drm_gpusvm_range *range = gpusvm_mock_range(mock, at(test, 16));

	set_vm_ops(at(test, 16), &no_memory_ops);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, true), -ENOMEM);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), -ENOMEM);
	gpusvm_mock_expect_unmapped(range);
	set_vm_ops(at(test, 16), NULL);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), 0);
	gpusvm_mock_expect_mapped(range, false);
}

/* Succeeds if memory that is not in device memory is refused on request. */
static void drm_gpusvm_test_devmem_only(struct kunit *test)
{
	const struct drm_gpusvm_ctx ctx = { .devmem_only = true };
	struct gpusvm_mock *mock = setup(test, 0, 64);
	struct drm_gpusvm_range *range = gpusvm_mock_range(mock, at(test, 16));

	KUNIT_EXPECT_EQ(test, gpusvm_mock_get_ctx(range, &ctx), -EFAULT);
	gpusvm_mock_expect_unmapped(range);
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get(range, false), 0);
	/* Being mapped already is no excuse. */
	KUNIT_EXPECT_EQ(test, gpusvm_mock_get_ctx(range, &ctx), -EFAULT);
	gpusvm_mock_expect_unmapped(range);
}

static const u32 seed_params[] = { 1, 2, 3, 4 };

static void seed_desc(const u32 *p, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "seed %u", *p);
}

KUNIT_ARRAY_PARAM(seed, seed_params, seed_desc);

/*
 * Succeeds if the GPU never has a translation that the process does not have,
 * after each of many random changes of the process's memory.
 */
static void drm_gpusvm_test_random(struct kunit *test)
{
	struct gpusvm_mock *mock = setup(test, 0, 4 * SLOT);
	unsigned long page, npages, seen = 0;
	struct rnd_state rnd;
	unsigned int i;
	int err;

	prandom_seed_state(&rnd, *(const u32 *)test->param_value);
	for (i = 0; i < 400; i++) {
		page = prandom_u32_state(&rnd) % (4 * SLOT - 20);
		npages = 1 + prandom_u32_state(&rnd) % 20;
		err = 0;
		switch (prandom_u32_state(&rnd) % 10) {
		case 0:
			err = vm_munmap(at(test, page), pages(npages));
			break;
		case 1:
			map(test, page, npages, RW);
			break;
		case 2:
			map(test, page, npages, PROT_READ);
			break;
		case 3:
			gpusvm_mock_discard(at(test, page), 1);
			break;
		case 4:
			mock->lazy = !mock->lazy;
			break;
		default:
			err = gpusvm_example_fault(mock, at(test, page),
						   npages & 1);
			if (err == -ENOENT || err == -EPERM)
				err = 0;
		}
		KUNIT_ASSERT_EQ(test, err, 0);
		seen += gpusvm_mock_check_pt(mock);
	}
	KUNIT_EXPECT_GT(test, seen, 1000);
}

static struct kunit_case gpusvm_pages_cases[] = {
	KUNIT_CASE_PARAM(drm_gpusvm_test_get, get_gen_params),
	KUNIT_CASE(drm_gpusvm_test_get_upgrade),
	KUNIT_CASE(drm_gpusvm_test_invalidate),
	KUNIT_CASE(drm_gpusvm_test_nonblocking),
	KUNIT_CASE(drm_gpusvm_test_map_fails),
	KUNIT_CASE_PARAM(drm_gpusvm_test_get_no_memory, get_step_gen_params),
	KUNIT_CASE(drm_gpusvm_test_storm),
	KUNIT_CASE(drm_gpusvm_test_storm_ends),
	KUNIT_CASE(drm_gpusvm_test_storm_elsewhere),
	KUNIT_CASE_PARAM(drm_gpusvm_test_changed, changed_gen_params),
	KUNIT_CASE(drm_gpusvm_test_get_twice),
	KUNIT_CASE(drm_gpusvm_test_killed),
	KUNIT_CASE(drm_gpusvm_test_get_munmap),
	KUNIT_CASE_PARAM(drm_gpusvm_test_vm_flags, vm_flags_gen_params),
	KUNIT_CASE(drm_gpusvm_test_hole),
	KUNIT_CASE(drm_gpusvm_test_fault_no_memory),
	KUNIT_CASE(drm_gpusvm_test_devmem_only),
	KUNIT_CASE_PARAM(drm_gpusvm_test_random, seed_gen_params),
	{}
};

static struct kunit_suite gpusvm_pages_suite = {
	.name = "drm_gpusvm_pages",
	.init = drm_gpusvm_test_init,
	.exit = drm_gpusvm_test_exit,
	.test_cases = gpusvm_pages_cases,
};

kunit_test_suites(&gpusvm_arith_suite, &gpusvm_range_suite,
		  &gpusvm_pages_suite);
