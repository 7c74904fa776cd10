// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Tests of DRM pagemap: every residency of a small window, through every entry
 * point, against a model of the result; and with everything failing in turn.
 */

#include "drm_pagemap_mock.h"
#include "../drm_pagemap_internal.h"

#include <kunit/static_stub.h>

#include <linux/mm.h>
#include <linux/percpu_counter.h>
#include <linux/prandom.h>
#include <linux/sched/signal.h>

#define SEED		PAGEMAP_MOCK_SEED
#define NPAGES		8
/* Nothing, RAM and the device, in all combinations: 3^NPAGES */
#define NWINDOWS	6561
/* Random windows that have pages on peers and the zero page, too */
#define NSAMPLES	400
/* A window is tried again if something held one of its pages. */
#define NTRIES		3

/* On kernels that check every access, a sample that is the same each time */
#define STRIDE	(IS_ENABLED(CONFIG_KASAN) || IS_ENABLED(CONFIG_KCSAN) ? 41 : 1)

struct chain;
struct window;

/**
 * struct entry_point - a call, and the way to get to it
 * @name: Description.
 * @run: The call.  Updates the model.
 * @flags: Flags of a migration.
 * @room: Pages of the allocation that a migration is given; 0: it has to ask.
 * @whole: All pages on the device are of one allocation, which has room for the
 *         whole window; otherwise every run of them has its own.
 * @fault_window: Pages that a CPU fault brings back; 0: all of the allocation.
 * @write: A CPU fault is a write.
 * @stride: One in so many windows is tried.
 */
struct entry_point {
	const char *name;
	void (*run)(struct window *w);
	unsigned int flags;
	unsigned int room;
	bool whole;
	unsigned int fault_window;
	bool write;
	unsigned int stride;
};

/**
 * struct window - the model of a window
 * @test: The test.
 * @e: The entry point.
 * @dev: The devices.  The first is the one that everything migrates to.
 * @addr: The address of the window.
 * @number: Number of the window.
 * @name: A character for each page.
 * @where: The place of each page.
 * @seed: The seed of the contents of each page; 0: it reads as zero.
 * @bo: The allocation that each page is in, if any.
 * @first: The page that this allocation was first filled from.
 * @stays: A page that cannot be moved to the device, plus 1; 0: none.
 * @made: Every allocation that a migration took over.
 * @nmade: Their number.
 * @anon: Anonymous pages of the process beside those of the window.
 * @c: The failure, if there is to be one.
 * @nth: Number of the call that fails.
 * @failed: Whether it came to that.
 * @what: Description of the first mismatch.
 * @got: The value found.
 * @want: The value of the model.
 */
struct window {
	struct kunit *test;
	const struct entry_point *e;
	struct pagemap_mock_dev *dev;
	unsigned long addr;
	unsigned int number;
	char name[NPAGES + 1];
	u8 where[NPAGES];
	u32 seed[NPAGES];
	struct pagemap_mock_bo *bo[NPAGES];
	unsigned int first[NPAGES];
	unsigned int stays;
	struct pagemap_mock_bo *made[NPAGES + 3];
	unsigned int nmade;
	s64 anon;
	const struct chain *c;
	unsigned int nth;
	bool failed;
	const char *what;
	s64 got;
	s64 want;
};

static unsigned long page_addr(const struct window *w, unsigned int i)
{
	return w->addr + i * PAGE_SIZE;
}

static bool is_peer(u8 where)
{
	return where == PAGEMAP_MOCK_DEV1 || where == PAGEMAP_MOCK_DEV2;
}

static bool is_device(u8 where)
{
	return where == PAGEMAP_MOCK_DEV0 || is_peer(where);
}

static unsigned int count(const struct window *w, bool (*is)(u8 where))
{
	unsigned int i, n = 0;

	for (i = 0; i < NPAGES; i++)
		n += is(w->where[i]);

	return n;
}

/* Compares with the model.  The first difference is what counts. */
static void same(struct window *w, const char *what, s64 got, s64 want)
{
	if (got == want || w->what)
		return;

	w->what = what;
	w->got = got;
	w->want = want;
}

static void discard(struct window *w, unsigned int first, unsigned int n)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;

	mmap_read_lock(mm);
	vma = vma_lookup(mm, w->addr);
	if (vma)
		zap_page_range_single(vma, page_addr(w, first), n * PAGE_SIZE, NULL);
	mmap_read_unlock(mm);
	memset(w->bo + first, 0, n * sizeof(*w->bo));
	same(w, "VMA", !!vma, true);
}

static s64 anon_pages(void)
{
	return percpu_counter_sum(&current->mm->rss_stat[MM_ANONPAGES]);
}

/* Set-up */

static void fill_device(struct window *w, struct pagemap_mock_dev *mdev,
			unsigned int first, unsigned int end)
{
	struct pagemap_mock_bo *bo;
	unsigned int i;
	int err;

	bo = pagemap_mock_bo_create(mdev, end - first,
				    w->number % 2 ? PAGEMAP_MOCK_SCATTER : 0);
	same(w, "allocation", !!bo, true);
	if (!bo)
		return;

	bo->devmem.fault_window = w->e->fault_window * PAGE_SIZE;
	err = pagemap_mock_migrate(bo, page_addr(w, first), end - first, 0);
	same(w, "set-up", err, 0);
	if (err) {
		pagemap_mock_bo_put(bo);
		return;
	}

	w->made[w->nmade++] = bo;
	for (i = first; i < end; i++) {
		w->bo[i] = bo;
		w->first[i] = first;
	}
}

static void fill_device_runs(struct window *w, unsigned int i)
{
	unsigned int first, end;

	for (first = 0; first < NPAGES; first = end + 1) {
		for (end = first; end < NPAGES; end++)
			if (w->where[end] != PAGEMAP_MOCK_DEV0 + i || w->bo[end])
				break;
		if (end > first)
			fill_device(w, &w->dev[i], first, end);
	}
}

static void write_page(struct window *w, unsigned int i)
{
	same(w, "write", pagemap_mock_write(page_addr(w, i), 1, w->seed[i]), 0);
}

/* One allocation, with holes where the pages are not of the device */
static void fill_device_whole(struct window *w)
{
	unsigned int i;

	for (i = 0; i < NPAGES; i++)
		if (w->where[i] == PAGEMAP_MOCK_DEV0)
			write_page(w, i);
	fill_device(w, &w->dev[0], 0, NPAGES);
	for (i = 0; i < NPAGES; i++)
		if (w->where[i] != PAGEMAP_MOCK_DEV0)
			discard(w, i, 1);
}

static void set_up(struct window *w)
{
	static const char letters[] = "-r012z";
	unsigned int i;

	w->what = NULL;
	w->nmade = 0;
	w->anon = anon_pages();
	for (i = 0; i < NPAGES; i++) {
		w->name[i] = letters[w->where[i]];
		w->seed[i] = 0;
		if (w->where[i] == PAGEMAP_MOCK_RAM || is_device(w->where[i]))
			w->seed[i] = SEED + w->number;
	}

	if (w->e->whole && memchr(w->where, PAGEMAP_MOCK_DEV0, NPAGES))
		fill_device_whole(w);
	for (i = 0; i < NPAGES; i++)
		if (w->seed[i] && !w->bo[i])
			write_page(w, i);
	for (i = 0; i < 3; i++)
		fill_device_runs(w, i);
	for (i = 0; i < NPAGES; i++)
		if (w->where[i] == PAGEMAP_MOCK_ZERO)
			same(w, "read", pagemap_mock_touch(page_addr(w, i)), 0);
}

/* Checks */

static void check_place(struct window *w)
{
	u8 where[NPAGES];
	unsigned int i;
	int err;

	err = pagemap_mock_where(w->test->priv, w->addr, NPAGES, where);
	same(w, "lookup", err, 0);
	for (i = 0; i < NPAGES && !err; i++)
		same(w, "place", where[i], w->where[i]);
}

/* Only a page that waits to be put on an LRU list has a second reference. */
static void check_ram(struct window *w)
{
	struct page *page;
	unsigned int i;

	for (i = 0; i < NPAGES; i++) {
		if (w->where[i] != PAGEMAP_MOCK_RAM)
			continue;
		if (get_user_pages_fast(page_addr(w, i), 1, 0, &page) != 1) {
			same(w, "page of RAM", false, true);
			continue;
		}
		same(w, "lock of a page of RAM", PageLocked(page), false);
		same(w, "mappings of a page of RAM", folio_mapcount(page_folio(page)), 1);
		same(w, "references to a page of RAM", page_ref_count(page) - 1,
		     PageLRU(page) ? 1 : 2);
		put_page(page);
	}
}

static void check_device_page(struct window *w, struct page *page)
{
	same(w, "lock of a device page", PageLocked(page), false);
	same(w, "mappings of a device page", folio_mapcount(page_folio(page)), 1);
	same(w, "references to a device page", page_ref_count(page), 1);
}

static void check_allocation(struct window *w, struct pagemap_mock_bo *bo)
{
	unsigned int i, want = 0, used = 0;
	struct page *page;

	for (i = 0; i < NPAGES; i++)
		want += w->bo[i] == bo;

	same(w, "releases", atomic_read(&bo->releases), !want);
	same(w, "end of an allocation", bo->freed, !want);
	same(w, "detached", completion_done(&bo->devmem.detached), !want);
	/* What was freed may be in use by another one. */
	if (bo->freed)
		return;

	for (i = 0; i < bo->npages; i++) {
		page = pagemap_mock_bo_page(bo, i);
		if (!page_ref_count(page))
			continue;
		check_device_page(w, page);
		used++;
	}
	same(w, "pages of an allocation", used, want);
}

static bool has_memory(u8 where)
{
	return where == PAGEMAP_MOCK_RAM || is_device(where);
}

static void check(struct window *w)
{
	unsigned int i;

	drm_pagemap_release_flush();
	check_place(w);
	check_ram(w);
	for (i = 0; i < w->nmade; i++)
		check_allocation(w, w->made[i]);
	same(w, "anonymous pages", anon_pages() - w->anon, count(w, has_memory));
}

/* Reads all, which brings all to RAM. */
static void check_contents(struct window *w)
{
	unsigned long addr;
	unsigned int i;

	for (i = 0; i < NPAGES; i++) {
		addr = page_addr(w, i);
		same(w, "contents", w->seed[i] ? pagemap_mock_read(addr, 1, w->seed[i]) :
						 pagemap_mock_read_zero(addr, 1), 0);
	}
}

/* Nothing is left once the process gave all of it up. */
static void tear_down(struct window *w)
{
	discard(w, 0, NPAGES);
	memset(w->where, PAGEMAP_MOCK_NONE, NPAGES);
	check(w);
}

/* Migration to the device */

/* The migration left the allocation to its caller. */
static void give_back(struct window *w, struct pagemap_mock_bo *bo)
{
	unsigned int i;

	drm_pagemap_release_flush();
	same(w, "releases after an error", atomic_read(&bo->releases), 0);
	same(w, "references after an error", kref_read(&bo->kref), 1);
	for (i = 0; i < bo->npages; i++)
		same(w, "use after an error",
		     page_ref_count(pagemap_mock_bo_page(bo, i)), 0);
	pagemap_mock_bo_put(bo);
}

static int call_migrate(struct window *w, struct drm_pagemap_migration *mig)
{
	struct pagemap_mock_bo *bo = NULL;
	int err;

	*mig = (struct drm_pagemap_migration) {
		.dpagemap = &w->dev->dpagemap,
		.alloc = pagemap_mock_alloc,
		.mm = current->mm,
		.start = w->addr,
		.end = page_addr(w, NPAGES),
		.pgmap_owner = &w->dev->mock->owner,
		.flags = w->e->flags,
	};
	w->dev->alloc_asked = 0;
	w->dev->alloc_calls = 0;
	if (w->e->room) {
		bo = pagemap_mock_bo_create(w->dev, w->e->room, 0);
		if (!bo)
			return -ENOMEM;
		mig->devmem = &bo->devmem;
	}

	mmap_read_lock(mig->mm);
	err = drm_pagemap_migrate(mig);
	mmap_read_unlock(mig->mm);

	return err;
}

/* Whether the migration wants page @i, and can move it */
static bool moves(const struct window *w, unsigned int i)
{
	u8 where = w->where[i];

	return where != PAGEMAP_MOCK_DEV0 && w->stays != i + 1 &&
	       (!is_peer(where) || w->e->flags & DRM_PAGEMAP_MIGRATE_PEERS);
}

/* Pages move in the order of the window, for as long as there is room. */
static void model_migrate(struct window *w, struct pagemap_mock_bo *bo,
			  unsigned int moved)
{
	unsigned int i;

	for (i = 0; i < NPAGES && moved; i++) {
		if (!moves(w, i))
			continue;
		w->where[i] = PAGEMAP_MOCK_DEV0;
		w->bo[i] = bo;
		moved--;
	}
}

static void check_migrate(struct window *w, int err,
			  const struct drm_pagemap_migration *mig)
{
	unsigned int i, own = 0, missing = 0, peers, moved;
	struct pagemap_mock_bo *bo = NULL;
	bool refused;

	for (i = 0; i < NPAGES; i++) {
		own += w->where[i] == PAGEMAP_MOCK_DEV0;
		missing += moves(w, i);
	}
	refused = !(w->e->flags & DRM_PAGEMAP_MIGRATE_PARTIAL) && missing < NPAGES;
	moved = refused ? 0 : min(missing, w->e->room ?: NPAGES);

	same(w, "result", err, refused ? -EBUSY : 0);
	same(w, "moved", mig->moved, moved);
	same(w, "resident", mig->resident, refused ? 0 : own);
	same(w, "left", mig->left, refused ? 0 : NPAGES - own - moved);
	same(w, "pages asked for", w->dev->alloc_asked, w->e->room ? 0 : moved);
	same(w, "requests", w->dev->alloc_calls, w->e->room ? 0 : !!moved);
	same(w, "allocation", !!mig->devmem, w->e->room || moved);
	if (mig->devmem)
		bo = container_of(mig->devmem, struct pagemap_mock_bo, devmem);
	if (bo && err) {
		give_back(w, bo);
		bo = NULL;
	}
	if (bo)
		w->made[w->nmade++] = bo;

	peers = count(w, is_peer);
	model_migrate(w, bo, moved);
	same(w, "from peers", mig->from_peers, peers - count(w, is_peer));
}

static void run_migrate(struct window *w)
{
	struct drm_pagemap_migration mig;
	int err = call_migrate(w, &mig);

	check_migrate(w, err, &mig);
}

static int call_populate(struct window *w)
{
	return drm_pagemap_populate_mm(&w->dev->dpagemap, w->addr,
				       page_addr(w, NPAGES), current->mm, 0);
}

static void check_populate(struct window *w, int err)
{
	struct pagemap_mock *mock = w->dev->mock;
	bool refused = memchr(w->where, PAGEMAP_MOCK_DEV0, NPAGES);

	same(w, "result", err, refused ? -EBUSY : 0);
	if (err)
		return;

	w->made[w->nmade] = list_last_entry(&mock->bos, struct pagemap_mock_bo, link);
	model_migrate(w, w->made[w->nmade++], NPAGES);
}

/* By way of the provider, which is all or nothing, with peers */
static void run_populate(struct window *w)
{
	check_populate(w, call_populate(w));
}

/* The way back */

/* Brings back pages of the allocation of page @k, in blocks of @size pages. */
static unsigned int model_to_ram(struct window *w, unsigned int k,
				 unsigned int size)
{
	unsigned int i, n = 0, first = w->first[k];
	struct pagemap_mock_bo *bo = w->bo[k];

	for (i = first; i < NPAGES; i++) {
		if (w->bo[i] != bo || (i - first) / size != (k - first) / size)
			continue;
		w->where[i] = PAGEMAP_MOCK_RAM;
		w->bo[i] = NULL;
		n++;
	}

	return n;
}

static void run_fault(struct window *w)
{
	unsigned int k = w->number % NPAGES, n;
	u8 where = w->where[k];
	struct pagemap_mock_dev *mdev = w->dev;
	s64 faults, pages;

	if (is_device(where))
		mdev += where - PAGEMAP_MOCK_DEV0;
	faults = pagemap_mock_counter(mdev, DRM_PAGEMAP_CPU_FAULTS);
	pages = pagemap_mock_counter(mdev, DRM_PAGEMAP_PAGES_FAULTED);
	if (w->e->write) {
		w->seed[k] = ~SEED;
		write_page(w, k);
	} else {
		same(w, "read", pagemap_mock_touch(page_addr(w, k)), 0);
	}
	faults = pagemap_mock_counter(mdev, DRM_PAGEMAP_CPU_FAULTS) - faults;
	pages = pagemap_mock_counter(mdev, DRM_PAGEMAP_PAGES_FAULTED) - pages;

	n = is_device(where) ? model_to_ram(w, k, w->e->fault_window ?: NPAGES) : 0;
	if (w->e->write)
		w->where[k] = PAGEMAP_MOCK_RAM;
	else if (where == PAGEMAP_MOCK_NONE)
		w->where[k] = PAGEMAP_MOCK_ZERO;
	same(w, "CPU faults", faults, !!n);
	same(w, "pages of CPU faults", pages, n);
}

/* An allocation without pages has none to evict. */
static void evict_nothing(struct window *w)
{
	struct pagemap_mock_bo *bo = pagemap_mock_bo_create(w->dev, NPAGES, 0);

	same(w, "allocation", !!bo, true);
	if (!bo)
		return;

	same(w, "eviction of nothing", pagemap_mock_evict(bo), -EBUSY);
	give_back(w, bo);
}

/* One after the other, with others of the window in place */
static void run_evict(struct window *w)
{
	struct pagemap_mock_dev *mdev;
	unsigned int i, k;
	s64 pages;

	if (!count(w, is_device))
		evict_nothing(w);

	for (i = 0; i < NPAGES; i++) {
		k = (w->number + i) % NPAGES;
		if (!is_device(w->where[k]))
			continue;
		mdev = w->bo[k]->mdev;
		pages = pagemap_mock_counter(mdev, DRM_PAGEMAP_PAGES_EVICTED);
		same(w, "result", pagemap_mock_evict(w->bo[k]), 0);
		pages = pagemap_mock_counter(mdev, DRM_PAGEMAP_PAGES_EVICTED) - pages;
		same(w, "evicted", pages, model_to_ram(w, k, NPAGES));
		check(w);
	}
}

/* The pages of the first device, whose memory is coherent, and no others */
static void run_to_ram(struct window *w)
{
	struct pagemap_mock *mock = w->test->priv;
	struct pagemap_mock_dev *mdev = w->dev;
	unsigned int i, n = 0;
	s64 pages;
	int err;

	pages = pagemap_mock_counter(mdev, DRM_PAGEMAP_PAGES_EVICTED);
	mmap_read_lock(current->mm);
	err = drm_pagemap_coherent_to_ram(current->mm, page_addr(w, 0),
					  page_addr(w, NPAGES), &mock->owner);
	mmap_read_unlock(current->mm);
	pages = pagemap_mock_counter(mdev, DRM_PAGEMAP_PAGES_EVICTED) - pages;

	for (i = 0; i < NPAGES; i++)
		if (w->where[i] == PAGEMAP_MOCK_DEV0)
			n += model_to_ram(w, i, NPAGES);
	same(w, "result", err, 0);
	same(w, "evicted", pages, n);
}

#define PARTIAL	DRM_PAGEMAP_MIGRATE_PARTIAL
#define PEERS	DRM_PAGEMAP_MIGRATE_PEERS

static const struct entry_point entry_points[] = {
	{ .name = "migrate", .run = run_migrate, .stride = 1 },
	{ .name = "migrate to an allocation", .run = run_migrate,
	  .room = NPAGES, .whole = true, .stride = 7 },
	{ .name = "migrate, peers", .run = run_migrate, .flags = PEERS, .stride = 7 },
	{ .name = "migrate to an allocation, peers", .run = run_migrate,
	  .flags = PEERS, .room = NPAGES, .whole = true, .stride = 1 },
	{ .name = "partial", .run = run_migrate, .flags = PARTIAL, .stride = 1 },
	{ .name = "partial, peers", .run = run_migrate,
	  .flags = PARTIAL | PEERS, .whole = true, .stride = 1 },
	{ .name = "partial, room for 3", .run = run_migrate,
	  .flags = PARTIAL, .room = 3, .stride = 7 },
	{ .name = "partial, peers, room for 3", .run = run_migrate,
	  .flags = PARTIAL | PEERS, .room = 3, .whole = true, .stride = 7 },
	{ .name = "partial, peers, room for all", .run = run_migrate,
	  .flags = PARTIAL | PEERS, .room = NPAGES, .stride = 7 },
	{ .name = "populate", .run = run_populate, .flags = PEERS, .stride = 7 },
	{ .name = "read fault", .run = run_fault, .whole = true,
	  .fault_window = NPAGES, .stride = 1 },
	{ .name = "write fault", .run = run_fault, .write = true, .whole = true,
	  .fault_window = NPAGES, .stride = 7 },
	{ .name = "read fault, of runs", .run = run_fault,
	  .fault_window = NPAGES, .stride = 7 },
	{ .name = "read fault, window of 3", .run = run_fault, .whole = true,
	  .fault_window = 3, .stride = 7 },
	{ .name = "write fault, window of 1", .run = run_fault, .write = true,
	  .whole = true, .fault_window = 1, .stride = 7 },
	{ .name = "evict", .run = run_evict, .whole = true, .stride = 1 },
	{ .name = "evict, of runs", .run = run_evict, .stride = 7 },
};

KUNIT_ARRAY_PARAM_DESC(entry_point, entry_points, name);

/* Those that differ if the CPU can access the memory of the first device */
static const struct entry_point coherent_points[] = {
	{ .name = "migrate", .run = run_migrate, .stride = 7 },
	{ .name = "migrate to an allocation, peers", .run = run_migrate,
	  .flags = PEERS, .room = NPAGES, .whole = true, .stride = 7 },
	{ .name = "partial", .run = run_migrate, .flags = PARTIAL, .stride = 7 },
	{ .name = "partial, peers", .run = run_migrate,
	  .flags = PARTIAL | PEERS, .whole = true, .stride = 7 },
	{ .name = "evict", .run = run_evict, .whole = true, .stride = 7 },
	{ .name = "to RAM", .run = run_to_ram, .whole = true, .stride = 1 },
	{ .name = "to RAM, of runs", .run = run_to_ram, .stride = 7 },
};

KUNIT_ARRAY_PARAM_DESC(coherent_point, coherent_points, name);

/* Tries @run on @where.  Returns false after failing the case. */
static bool try_window(struct window *w, const u8 *where,
		       void (*run)(struct window *w))
{
	unsigned int i;

	for (i = 0; i < NTRIES; i++) {
		memcpy(w->where, where, NPAGES);
		set_up(w);
		check(w);
		if (!w->what)
			run(w);
		check(w);
		check_contents(w);
		tear_down(w);
		if (!w->what)
			return true;
	}

	KUNIT_FAIL(w->test, "window %u %s: %s: %lld, not %lld", w->number, w->name,
		   w->what, w->got, w->want);

	return false;
}

/* The window whose pages are the digits of its number in base 3 */
static bool try_number(struct window *w)
{
	static const u8 places[] = {
		PAGEMAP_MOCK_NONE, PAGEMAP_MOCK_RAM, PAGEMAP_MOCK_DEV0
	};
	unsigned int i, rest = w->number;
	u8 where[NPAGES];

	for (i = 0; i < NPAGES; i++, rest /= 3)
		where[i] = places[rest % 3];

	return try_window(w, where, w->e->run);
}

/* NONE, RAM, three devices and ZERO are the first of the places. */
static void random_places(struct rnd_state *rnd, u8 *where)
{
	unsigned int i;

	for (i = 0; i < NPAGES; i++)
		where[i] = prandom_u32_state(rnd) % (PAGEMAP_MOCK_ZERO + 1);
}

/* The model of a window between three devices that copy from each other */
static struct window *new_window(struct kunit *test, const struct entry_point *e)
{
	struct window *w = kunit_kzalloc(test, sizeof(*w), GFP_KERNEL);
	struct pagemap_mock *mock = test->priv;

	KUNIT_ASSERT_NOT_NULL(test, w);
	pagemap_mock_add_dev(mock, "pagemap-mock-1");
	pagemap_mock_add_dev(mock, "pagemap-mock-2");
	pagemap_mock_connect(mock);
	w->test = test;
	w->e = e;
	w->dev = mock->dev;
	w->addr = pagemap_mock_map(test, NPAGES);

	return w;
}

/*
 * Succeeds if, for each combination of untouched, RAM and device pages in a
 * window of 8 pages, and a sample of those with the zero page and pages on two
 * peers, a call returns and moves what the model says; and every page is then
 * mapped once, unlocked and without other references, and reads as before; and
 * each allocation is released when, and not before, its last page is gone.
 */
static void drm_pagemap_test_residency(struct kunit *test)
{
	struct window *w = new_window(test, test->param_value);
	struct rnd_state rnd;
	unsigned int i, n = 0;
	u8 where[NPAGES];
	bool ok = true;

	for (; w->number < NWINDOWS && ok; w->number += w->e->stride * STRIDE, n++)
		ok = try_number(w);

	prandom_seed_state(&rnd, SEED);
	for (i = 0; i < NSAMPLES / STRIDE && ok; i++) {
		w->number = i;
		random_places(&rnd, where);
		ok = try_window(w, where, w->e->run);
	}
	kunit_info(test, "%u windows, and %u with seed 0x%x\n", n, i, SEED);
}

/* Failures */

/* More than a migration of the window has of anything */
#define NFAILURES	100
/* Random windows for each failure */
#define NCHAINS		(STRIDE == 1 ? 50 : 5)

/**
 * struct chain - an entry point, and a thing that fails in it
 * @name: Description.
 * @e: The entry point: a migration.
 * @kind: The kind of the thing.
 * @step: Step of the layer, for %FAIL_STEP.
 * @op: Operation of the driver, for %FAIL_OP.
 * @err: Return value of the entry point, but for %FAIL_MAP.
 */
struct chain {
	const char *name;
	const struct entry_point *e;
	enum { FAIL_STEP, FAIL_OP, FAIL_ALLOC, FAIL_MAP } kind;
	enum drm_pagemap_step step;
	enum pagemap_mock_op op;
	int err;
};

static const struct entry_point fail_strict = {
	.run = run_migrate, .flags = PEERS, .room = NPAGES,
}, fail_strict_alloc = {
	.run = run_migrate, .flags = PEERS,
}, fail_partial = {
	.run = run_migrate, .flags = PARTIAL | PEERS, .whole = true,
}, fail_room = {
	.run = run_migrate, .flags = PARTIAL | PEERS, .room = 3,
}, fail_no_peers = {
	.run = run_migrate, .flags = PARTIAL, .whole = true,
}, fail_populate = {
	.run = run_populate, .flags = PEERS,
};

#define CHAIN_STEP(s, r)	.kind = FAIL_STEP, .step = DRM_PAGEMAP_STEP_##s, .err = r
#define CHAIN_OP(o)		.kind = FAIL_OP, .op = PAGEMAP_MOCK_##o, .err = -EIO
#define CHAIN_ALLOC		.kind = FAIL_ALLOC, .err = -ENOSPC
#define CHAIN_MAP		.kind = FAIL_MAP

static const struct chain chains[] = {
	{ "all or nothing, scratch", &fail_strict, CHAIN_STEP(SCRATCH, -ENOMEM) },
	{ "all or nothing, zdd", &fail_strict, CHAIN_STEP(ZDD, -ENOMEM) },
	{ "all or nothing, DMA mapping", &fail_strict, CHAIN_STEP(DMA_MAP, -EFAULT) },
	{ "all or nothing, populate", &fail_strict, CHAIN_OP(POPULATE) },
	{ "all or nothing, copy from RAM", &fail_strict, CHAIN_OP(TO_DEVMEM) },
	{ "all or nothing, copy from peer", &fail_strict, CHAIN_OP(FROM_PEER) },
	{ "all or nothing, mapping of peer", &fail_strict, CHAIN_MAP },
	{ "all or nothing, allocation", &fail_strict_alloc, CHAIN_ALLOC },
	{ "partial, scratch", &fail_partial, CHAIN_STEP(SCRATCH, -ENOMEM) },
	{ "partial, zdd", &fail_partial, CHAIN_STEP(ZDD, -ENOMEM) },
	{ "partial, DMA mapping", &fail_partial, CHAIN_STEP(DMA_MAP, -EFAULT) },
	{ "partial, populate", &fail_partial, CHAIN_OP(POPULATE) },
	{ "partial, copy from RAM", &fail_partial, CHAIN_OP(TO_DEVMEM) },
	{ "partial, copy from peer", &fail_partial, CHAIN_OP(FROM_PEER) },
	{ "partial, mapping of peer", &fail_partial, CHAIN_MAP },
	{ "partial, allocation", &fail_partial, CHAIN_ALLOC },
	{ "room for 3, scratch", &fail_room, CHAIN_STEP(SCRATCH, -ENOMEM) },
	{ "room for 3, DMA mapping", &fail_room, CHAIN_STEP(DMA_MAP, -EFAULT) },
	{ "room for 3, copy from peer", &fail_room, CHAIN_OP(FROM_PEER) },
	{ "room for 3, mapping of peer", &fail_room, CHAIN_MAP },
	{ "without peers, scratch", &fail_no_peers, CHAIN_STEP(SCRATCH, -ENOMEM) },
	{ "without peers, zdd", &fail_no_peers, CHAIN_STEP(ZDD, -ENOMEM) },
	{ "without peers, DMA mapping", &fail_no_peers, CHAIN_STEP(DMA_MAP, -EFAULT) },
	{ "without peers, populate", &fail_no_peers, CHAIN_OP(POPULATE) },
	{ "without peers, copy from RAM", &fail_no_peers, CHAIN_OP(TO_DEVMEM) },
	{ "populate_mm, scratch", &fail_populate, CHAIN_STEP(SCRATCH, -ENOMEM) },
	{ "populate_mm, DMA mapping", &fail_populate, CHAIN_STEP(DMA_MAP, -EFAULT) },
	{ "populate_mm, copy from peer", &fail_populate, CHAIN_OP(FROM_PEER) },
};

KUNIT_ARRAY_PARAM_DESC(chain, chains, name);

/* The step whose @nth call fails; 0: none does.  Of the test's thread only */
static struct {
	enum drm_pagemap_step step;
	unsigned int nth;
} inject;

static unsigned long inject_step(enum drm_pagemap_step step, unsigned long n)
{
	if (!inject.nth || step != inject.step || --inject.nth)
		return n;

	return 0;
}

static void arm(struct window *w)
{
	const struct chain *c = w->c;
	unsigned int nth = w->nth;

	switch (c->kind) {
	case FAIL_STEP:
		inject.step = c->step;
		inject.nth = nth;
		break;
	case FAIL_OP:
		pagemap_mock_fail(w->dev, c->op, nth, w->number % (NPAGES + 1),
				  c->err);
		break;
	case FAIL_ALLOC:
		w->dev->alloc_error = nth == 1 ? c->err : 0;
		break;
	case FAIL_MAP:
		w->dev[1].fail_map = nth;
		break;
	}
}

/* Returns whether something failed. */
static bool disarm(struct window *w)
{
	const struct chain *c = w->c;
	bool left = false;

	switch (c->kind) {
	case FAIL_STEP:
		left = inject.nth;
		inject.nth = 0;
		break;
	case FAIL_OP:
		left = atomic_read(&w->dev->hook[c->op].calls) < (int)w->nth;
		pagemap_mock_arm(w->dev, c->op);
		break;
	case FAIL_ALLOC:
		left = !w->dev->alloc_error || !w->dev->alloc_calls;
		w->dev->alloc_error = 0;
		break;
	case FAIL_MAP:
		left = w->dev[1].fail_map;
		w->dev[1].fail_map = 0;
		break;
	}

	return !left;
}

/* The page of the peer that is mapped as the @nth, plus 1, or 0 */
static unsigned int nth_of_peer(const struct window *w, unsigned int nth)
{
	unsigned int i;

	for (i = 0; i < NPAGES; i++)
		if (w->where[i] == PAGEMAP_MOCK_DEV1 && !--nth)
			return i + 1;

	return 0;
}

/* A page of a peer that cannot be mapped is not an error, but stays. */
static void run_unmapped(struct window *w)
{
	w->stays = nth_of_peer(w, w->nth);
	arm(w);
	run_migrate(w);
	w->failed = disarm(w);
	same(w, "failure", w->failed, !!w->stays);
	check(w);
	w->stays = 0;
	if (w->failed)
		run_migrate(w);
}

static int call(struct window *w, struct drm_pagemap_migration *mig)
{
	if (w->e->run == run_migrate)
		return call_migrate(w, mig);

	*mig = (struct drm_pagemap_migration) {};

	return call_populate(w);
}

static void check_result(struct window *w, int err,
			 const struct drm_pagemap_migration *mig)
{
	if (w->e->run == run_migrate)
		check_migrate(w, err, mig);
	else
		check_populate(w, err);
}

/* Everything is as it was, and the allocation the caller's.  Then it works. */
static void run_failing(struct window *w)
{
	struct drm_pagemap_migration mig;
	int err;

	arm(w);
	err = call(w, &mig);
	w->failed = disarm(w);
	if (w->failed) {
		same(w, "result of a failure", err, w->c->err);
		same(w, "moved", mig.moved, 0);
		same(w, "from peers", mig.from_peers, 0);
		same(w, "resident", mig.resident, 0);
		same(w, "left", mig.left, 0);
		if (mig.devmem)
			give_back(w, container_of(mig.devmem,
						  struct pagemap_mock_bo, devmem));
		check(w);
		err = call(w, &mig);
	}
	check_result(w, err, &mig);
}

/* Fails the first, the second, ... until the call gets by without. */
static unsigned int try_chain(struct window *w, const u8 *where)
{
	for (w->nth = 1; w->nth < NFAILURES; w->nth++) {
		if (!try_window(w, where, w->c->kind == FAIL_MAP ? run_unmapped :
								   run_failing))
			break;
		if (!w->failed)
			return w->nth - 1;
	}
	KUNIT_FAIL(w->test, "no end at failure %u", w->nth);

	return 0;
}

/*
 * Succeeds if, with the first, the second, ... of a thing failing until a
 * migration gets by without it, each failure has the documented result, leaves
 * every page, reference, lock and allocation as it was, and goes unnoticed by a
 * second try.
 */
static void drm_pagemap_test_residency_failures(struct kunit *test)
{
	const struct chain *c = test->param_value;
	struct window *w = new_window(test, c->e);
	unsigned int i, k, total = 0;
	struct rnd_state rnd;
	u8 where[NPAGES];

	inject.nth = 0;
	kunit_activate_static_stub(test, drm_pagemap_inject, inject_step);
	w->c = c;
	prandom_seed_state(&rnd, SEED);
	for (i = 0; i < NCHAINS && !w->what; i++) {
		/* Pages of a peer that are not contiguous are mapped one by one. */
		w->number = c->kind == FAIL_MAP ? 2 * i + 1 : i;
		random_places(&rnd, where);
		/* All or nothing is nothing if a page is there already. */
		for (k = 0; k < NPAGES && !(c->e->flags & PARTIAL); k++)
			if (where[k] == PAGEMAP_MOCK_DEV0)
				where[k] = PAGEMAP_MOCK_DEV1;
		total += try_chain(w, where);
	}
	kunit_info(test, "%u failures in %u windows\n", total, i);
	KUNIT_EXPECT_GT_MSG(test, total, 0, "nothing failed");
}

/* A fault that has the mmap lock for good.  Returns whether there is no memory. */
static bool fault_is_oom(unsigned long addr)
{
	struct vm_area_struct *vma;
	vm_fault_t fault = 0;

	mmap_read_lock(current->mm);
	vma = vma_lookup(current->mm, addr);
	if (vma)
		fault = handle_mm_fault(vma, addr, FAULT_FLAG_ALLOW_RETRY |
					FAULT_FLAG_TRIED, NULL);
	mmap_read_unlock(current->mm);

	return fault & VM_FAULT_OOM;
}

static int killed_fault_thread(void *addr)
{
	bool oom;

	allow_signal(SIGKILL);
	send_sig(SIGKILL, current, 1);
	oom = fault_is_oom((unsigned long)addr);
	flush_signals(current);
	disallow_signal(SIGKILL);

	return oom ? 0 : -EINVAL;
}

/*
 * Succeeds if a thread that was killed does not wait for a DMA mapping: it tries
 * the window, then the page, and leaves all where it was.
 */
static void drm_pagemap_test_fault_of_a_killed_thread(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, NPAGES);
	struct pagemap_mock_hook *hook = &mdev->hook[PAGEMAP_MOCK_TO_RAM];
	struct pagemap_mock_thread *thread;
	struct pagemap_mock_bo *bo;

	bo = pagemap_mock_to_dev(mdev, addr, NPAGES, 0);
	pagemap_mock_fail(mdev, PAGEMAP_MOCK_TO_RAM, 1, 0, -EAGAIN);
	hook->fail_calls = SHRT_MAX;
	thread = pagemap_mock_thread(test, killed_fault_thread, (void *)addr);
	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, thread), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&hook->calls), 2);
	KUNIT_EXPECT_EQ(test, pagemap_mock_elsewhere(test, addr, NPAGES,
						     PAGEMAP_MOCK_DEV0), 0);

	/* Nobody kills this one, so that it is patient. */
	pagemap_mock_fail(mdev, PAGEMAP_MOCK_TO_RAM, 1, 0, -EAGAIN);
	hook->fail_calls = SHRT_MAX;
	KUNIT_EXPECT_TRUE(test, fault_is_oom(addr));
	KUNIT_EXPECT_GT(test, atomic_read(&hook->calls), 2);

	pagemap_mock_arm(mdev, PAGEMAP_MOCK_TO_RAM);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, NPAGES, SEED), 0);
	pagemap_mock_expect_released(test, bo);
}

static struct kunit_case drm_pagemap_residency_cases[] = {
	KUNIT_CASE_PARAM_ATTR(drm_pagemap_test_residency, entry_point_gen_params,
			      { .speed = KUNIT_SPEED_SLOW }),
	KUNIT_CASE_PARAM_ATTR(drm_pagemap_test_residency_failures, chain_gen_params,
			      { .speed = KUNIT_SPEED_SLOW }),
	KUNIT_CASE(drm_pagemap_test_fault_of_a_killed_thread),
	{}
};

static struct kunit_suite drm_pagemap_residency_suite = {
	.name = "drm_pagemap_residency",
	.init = pagemap_mock_init,
	.exit = pagemap_mock_exit,
	.test_cases = drm_pagemap_residency_cases,
};

static struct kunit_case drm_pagemap_residency_coherent_cases[] = {
	KUNIT_CASE_PARAM_ATTR(drm_pagemap_test_residency, coherent_point_gen_params,
			      { .speed = KUNIT_SPEED_SLOW }),
	KUNIT_CASE_PARAM_ATTR(drm_pagemap_test_residency_failures, chain_gen_params,
			      { .speed = KUNIT_SPEED_SLOW }),
	{}
};

static struct kunit_suite drm_pagemap_residency_coherent_suite = {
	.name = "drm_pagemap_residency_coherent",
	.init = pagemap_mock_init_coherent,
	.exit = pagemap_mock_exit,
	.test_cases = drm_pagemap_residency_coherent_cases,
};

kunit_test_suites(&drm_pagemap_residency_suite,
		  &drm_pagemap_residency_coherent_suite);
