// SPDX-License-Identifier: GPL-2.0-only OR MIT

#include <linux/cleanup.h>
#include <linux/dma-mapping.h>
#include <linux/export.h>
#include <linux/hmm.h>
#include <linux/jiffies.h>
#include <linux/kmemleak.h>
#include <linux/list.h>
#include <linux/lockdep.h>
#include <linux/memremap.h>
#include <linux/mempolicy.h>
#include <linux/migrate.h>
#include <linux/mm.h>
#include <linux/mmdebug.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/vmalloc.h>

#include <drm/drm_device.h>
#include <drm/drm_pagemap.h>

#include "drm_pagemap_internal.h"
#include "drm_pagemap_trace.h"

/**
 * DOC: Overview
 *
 * DRM pagemap lets a driver put pages of an ordinary process into device
 * memory, and get them back.  If the CPU cannot access that memory, such a page
 * is a device-private page: a struct page without RAM behind it, to which the
 * process's page tables refer by a special swap entry.  A CPU access faults,
 * and the fault brings the page back to RAM.  See "Coherent memory" for the
 * other kind.
 *
 * The driver provides memory (struct drm_pagemap, registered as a region by
 * devm_drm_pagemap_region_add()), allocations of it (struct
 * drm_pagemap_devmem) and a way to copy.  DRM pagemap does the rest: it
 * migrates a range of an address space to an allocation
 * (drm_pagemap_migrate_to_devmem(), drm_pagemap_migrate()), serves the CPU
 * faults, evicts an allocation (drm_pagemap_evict_to_ram()) and empties a whole
 * region (drm_pagemap_region_unplug()).
 *
 * Terms: *devmem* is device memory, *RAM* is what the CPU can access.
 * To *migrate* is to move pages by their virtual addresses, to *evict* is to
 * move them to RAM by their physical ones.  An *end* is exclusive, *npages*
 * counts pages of PAGE_SIZE, other sizes are in bytes.
 */

/**
 * DOC: Life cycle
 *
 * Every device page in use points, by &page.zone_device_data, to a struct that
 * all pages of one migration share, and holds a reference on it.  When the last
 * of these pages is freed, &drm_pagemap_devmem.detached is completed and a work
 * item calls &drm_pagemap_devmem_ops.devmem_release.  The work item is there
 * because pages are freed in atomic context, for example by munmap() under the
 * page table lock.  Eviction does not leave it to the work item: when it returns
 * 0, the release is over.  Until a release is over it holds a reference to the
 * struct dev_pagemap of the pages, so that memunmap_pages() waits for it, and
 * with it unbind and the unloading of the driver.
 *
 * A migration that returns 0 has taken over the caller's reference to the
 * allocation, also if all of its pages are gone again by then.  One that fails
 * leaves the reference with the caller, and no page refers to the allocation.
 *
 * Device pages outlive the address space they were migrated from: after fork()
 * the child has them too.  That is why nothing here looks at
 * &drm_pagemap_devmem.mm.
 */

/**
 * DOC: Locking
 *
 * ======================== =========== ========================================
 * Lock                     Mode        Protects
 * ======================== =========== ========================================
 * mmap lock                read        the VMA, while migrating to devmem and
 *                                      in CPU faults; not taken by eviction
 * gate of the region       read: to    the region from being emptied while
 *                          devmem      pages are migrated to it
 *                          write:
 *                          unplug
 * make_lock of the region  mutex       the set of struct pages that exist, see
 *                                      "Regions on demand"; outermost
 * page lock                trylock     a page's contents and place, while it
 *                                      migrates; held by the mm core for the
 *                                      page that a CPU fault is about
 * page table lock,         mm core     the entries that refer to a page
 * anon_vma
 * ======================== =========== ========================================
 *
 * The order is mmap lock, gate, page locks, page table lock.  Page locks are
 * only tried, never waited for, because two migrations may want the same pages
 * in a different order.  mmu notifiers are called with any of them held.
 *
 * The driver's callbacks run with page locks held: they must not take a lock
 * under which this layer is called, or under which memory of a process is
 * accessed.
 */

/**
 * DOC: Races
 *
 * A page that is locked, or has a reference that is not accounted for, does not
 * migrate.  Such references are short-lived and may appear at any time.  A
 * migration to devmem therefore looks at what was moved in the end, eviction
 * waits and tries again, and a CPU fault retries, all without spinning.
 *
 * Contents become visible in their new place only after the copy is complete
 * and the DMA mappings are undone, since with bounce buffers that is when the
 * data arrives.  Device pages are taken into use after the copy, so that a copy
 * that failed leaves nothing behind.
 *
 * munmap(), exit and MADV_DONTNEED may free device pages at any time; so may
 * another CPU fault.  fork() makes pages shared, which eviction and CPU faults
 * handle for all sharers at once.
 *
 * A CPU fault that leaves its page to the device for the timeslice sleeps in the
 * mm core.  It holds no lock meanwhile, and wakes up as soon as the page is
 * freed, for any reason.  Faults for other processes or devices, on shared pages,
 * or that cannot wait, are served at once.
 */

/**
 * DOC: Coherent memory
 *
 * A region with %DRM_PAGEMAP_REGION_COHERENT is device memory that the CPU
 * accesses in place: its pages are %MEMORY_DEVICE_COHERENT, and page tables map
 * them as they map RAM.  Migration, eviction, unplug and peers are the same as
 * with private memory.  What differs:
 *
 * - There are no CPU faults on them.  A timeslice and &drm_pagemap_devmem.fault_window
 *   have no meaning, and drm_pagemap_coherent_to_ram() does what a CPU access
 *   does for private pages.
 * - Pages can be pinned where they are.  FOLL_LONGTERM moves them to RAM first;
 *   the mm core copies them then, without the driver.  Shorter pins, such as that
 *   of direct I/O, keep a page in place: eviction reports -EBUSY, and unplug
 *   waits for their end.  A page in a pipe, after vmsplice(), is such a pin.
 * - Large folios are split on the way, and what comes back are base pages.
 * - A device with another page owner accesses such pages like RAM.
 *
 * The device's accesses have to be coherent with those of the CPU, since nothing
 * is flushed when only one of them goes on to use the memory.
 */

#define DRM_PAGEMAP_NO_PFN	ULONG_MAX
#define DRM_PAGEMAP_NO_FAULT	ULONG_MAX

/* Device pages of either type */
#define DRM_PAGEMAP_SELECT_DEVMEM	(MIGRATE_VMA_SELECT_DEVICE_PRIVATE | \
					 MIGRATE_VMA_SELECT_DEVICE_COHERENT)

/* The most pages that an eviction takes at a time. */
#define DRM_PAGEMAP_EVICT_BATCH		512UL
/* Eviction gives up after that time without a page that moved ... */
#define DRM_PAGEMAP_EVICT_TIMEOUT	HZ
/* ... or after that many passes with an error. */
#define DRM_PAGEMAP_EVICT_ERRORS	3
/* A CPU fault waits that long for a DMA mapping. */
#define DRM_PAGEMAP_FAULT_TIMEOUT	(HZ / 4)

/* Orders of the blocks of RAM that pages come back to. */
#define DRM_PAGEMAP_MAX_BLOCK		min(9, MAX_PAGE_ORDER)
#define DRM_PAGEMAP_MIN_BLOCK		4
/* Pages of a huge page */
#define DRM_PAGEMAP_HUGE		(PMD_SIZE >> PAGE_SHIFT)

/*
 * The arrays of a migration.  src and dst have an entry for each page of the
 * range, as the mm core wants them; the others one for each page that is
 * copied, in the same order.
 */
struct drm_pagemap_scratch {
	dma_addr_t *dma;
	struct page **pages;	/* device pages */
	unsigned long *ram;	/* their pfns in RAM, or DRM_PAGEMAP_NO_PFN */
	unsigned long *src;
	unsigned long *dst;
	unsigned long npages;
	unsigned long ncopy;
};

/* The arrays for a single page, without an allocation that could fail. */
struct drm_pagemap_single {
	struct drm_pagemap_scratch scratch;
	dma_addr_t dma;
	struct page *page;
	unsigned long ram;
	unsigned long src;
	unsigned long dst;
};

static struct drm_pagemap_scratch *
drm_pagemap_single_init(struct drm_pagemap_single *one)
{
	one->scratch = (struct drm_pagemap_scratch) {
		.dma = &one->dma,
		.pages = &one->page,
		.ram = &one->ram,
		.src = &one->src,
		.dst = &one->dst,
		.npages = 1,
	};

	return &one->scratch;
}

static void drm_pagemap_scratch_free(struct drm_pagemap_scratch *s)
{
	kvfree(s->dma);
	kvfree(s->pages);
	kvfree(s->ram);
	kvfree(s->src);
	kvfree(s->dst);
}

/*
 * An array that costs little to give back: the page allocator takes a block of
 * higher order as a sign that it has too many pages at hand, and empties its
 * lists.
 */
static void *drm_pagemap_array(unsigned long npages, size_t size)
{
	gfp_t gfp = GFP_KERNEL | __GFP_NOWARN;
	size_t bytes = array_size(npages, size);

	return bytes <= PAGE_SIZE ? kmalloc(bytes, gfp) : __vmalloc(bytes, gfp);
}

static int drm_pagemap_scratch_alloc(struct drm_pagemap_scratch *s,
				     unsigned long npages)
{
	if (!drm_pagemap_inject(DRM_PAGEMAP_STEP_SCRATCH, 1))
		return -ENOMEM;

	s->dma = drm_pagemap_array(npages, sizeof(*s->dma));
	s->pages = drm_pagemap_array(npages, sizeof(*s->pages));
	s->ram = drm_pagemap_array(npages, sizeof(*s->ram));
	s->src = drm_pagemap_array(npages, sizeof(*s->src));
	s->dst = drm_pagemap_array(npages, sizeof(*s->dst));
	s->npages = npages;
	s->ncopy = 0;
	if (s->dma && s->pages && s->ram && s->src && s->dst)
		return 0;

	drm_pagemap_scratch_free(s);
	return -ENOMEM;
}

/* An array for all pages of an allocation. */
static unsigned long *
drm_pagemap_pfns_alloc(const struct drm_pagemap_devmem *devmem)
{
	if (!drm_pagemap_inject(DRM_PAGEMAP_STEP_SCRATCH, 1))
		return NULL;

	return kvmalloc_array(devmem->size >> PAGE_SHIFT, sizeof(unsigned long),
			      GFP_KERNEL | __GFP_NOWARN);
}

/* Set with the first page that fails, for good; see "Memory failure". */
static bool drm_pagemap_has_poison;
/* Serializes reports of broken pages. */
static DEFINE_MUTEX(drm_pagemap_poison_lock);

/*
 * All regions.  Nothing is read from a struct drm_pagemap to find its region:
 * drivers that know nothing of regions need not even have zeroed it.
 */
static LIST_HEAD(drm_pagemap_regions);
/* Protects the list. */
static DEFINE_SPINLOCK(drm_pagemap_regions_lock);

/**
 * drm_pagemap_region_link() - Let a region be found
 * @region: The region.
 *
 * It is found before an earlier region of the same memory that is gone, but not
 * yet unlinked.
 *
 * Context: Process context.
 */
void drm_pagemap_region_link(struct drm_pagemap_region *region)
{
	spin_lock(&drm_pagemap_regions_lock);
	list_add(&region->link, &drm_pagemap_regions);
	spin_unlock(&drm_pagemap_regions_lock);
}

/**
 * drm_pagemap_region_unlink() - Undo drm_pagemap_region_link()
 * @region: The region.
 *
 * Context: Process context.
 */
void drm_pagemap_region_unlink(struct drm_pagemap_region *region)
{
	spin_lock(&drm_pagemap_regions_lock);
	list_del(&region->link);
	spin_unlock(&drm_pagemap_regions_lock);
}

/**
 * drm_pagemap_region_find() - The region of a device's memory
 * @dpagemap: The memory, which exists.  It is not accessed.
 *
 * Context: Process context.
 * Return: The region, which exists for as long as @dpagemap; or NULL if the
 * driver manages its struct dev_pagemap itself.
 */
struct drm_pagemap_region *
drm_pagemap_region_find(const struct drm_pagemap *dpagemap)
{
	struct drm_pagemap_region *region, *found = NULL;

	spin_lock(&drm_pagemap_regions_lock);
	list_for_each_entry(region, &drm_pagemap_regions, link) {
		if (region->dpagemap != dpagemap)
			continue;
		found = region;
		break;
	}
	spin_unlock(&drm_pagemap_regions_lock);

	return found;
}

/* The region that a device page is part of, or NULL if it is a driver's own */
static struct drm_pagemap_region *drm_pagemap_region_of(unsigned long pfn)
{
	struct drm_pagemap_region *region, *found = NULL;

	/* One that is gone may have had the same pfns. */
	spin_lock(&drm_pagemap_regions_lock);
	list_for_each_entry(region, &drm_pagemap_regions, link) {
		if (READ_ONCE(region->gone) ||
		    !drm_pagemap_region_has_pfn(region, pfn))
			continue;
		found = region;
		break;
	}
	spin_unlock(&drm_pagemap_regions_lock);

	return found;
}

static void drm_pagemap_count(struct drm_pagemap_region *region,
			      enum drm_pagemap_counter counter, unsigned long n)
{
	if (region && n)
		atomic64_add(n, &region->counters[counter]);
}

/*
 * Undo drm_pagemap_dma_map().  The runs are found again in s->ram, which does
 * not change in between.
 */
static void drm_pagemap_dma_unmap(struct device *dev,
				  struct drm_pagemap_scratch *s,
				  unsigned long first, unsigned long end,
				  enum dma_data_direction dir)
{
	unsigned long max = max(dma_max_mapping_size(dev) >> PAGE_SHIFT, 1UL);
	const unsigned long *ram = s->ram;
	unsigned long i, run;

	for (i = first; i < end; i += run) {
		run = 1;
		if (ram[i] == DRM_PAGEMAP_NO_PFN)
			continue;

		run = drm_pagemap_run_length(ram + i, end - i, max);
		dma_unmap_page(dev, s->dma[i], run << PAGE_SHIFT, dir);
	}
}

/*
 * Map the RAM pages from @first to @end (exclusive), a contiguous run at once.
 * Pages without contents get the address @zero.  Returns 0, or -EAGAIN if mapping
 * failed, for example for want of bounce buffers, which others will free.
 */
static int drm_pagemap_dma_map(struct device *dev,
			       struct drm_pagemap_scratch *s,
			       unsigned long first, unsigned long end,
			       enum dma_data_direction dir, dma_addr_t zero)
{
	unsigned long max = max(dma_max_mapping_size(dev) >> PAGE_SHIFT, 1UL);
	const unsigned long *ram = s->ram;
	dma_addr_t addr, *dma = s->dma;
	unsigned long i, j, run;

	for (i = first; i < end; i += run) {
		if (ram[i] == DRM_PAGEMAP_NO_PFN) {
			dma[i] = zero;
			run = 1;
			continue;
		}

		run = drm_pagemap_run_length(ram + i, end - i, max);
		addr = DMA_MAPPING_ERROR;
		if (drm_pagemap_inject(DRM_PAGEMAP_STEP_DMA_MAP, 1))
			addr = dma_map_page(dev, pfn_to_page(ram[i]), 0,
					    run << PAGE_SHIFT, dir);
		if (dma_mapping_error(dev, addr))
			goto err_unmap;

		for (j = i; j < i + run; j++, addr += PAGE_SIZE)
			dma[j] = addr;
	}

	return 0;

err_unmap:
	drm_pagemap_dma_unmap(dev, s, first, i, dir);
	return -EAGAIN;
}

/*
 * Allocation of RAM.  The bulk allocator knows nothing of NUMA policies, so it
 * only serves where there is none.
 */
#ifdef CONFIG_NUMA
static bool drm_pagemap_has_policy(struct vm_area_struct *vma)
{
	return vma && (vma->vm_policy || current->mempolicy ||
		       (vma->vm_ops && vma->vm_ops->get_policy));
}
#else
static bool drm_pagemap_has_policy(struct vm_area_struct *vma)
{
	return false;
}
#endif

static struct page *drm_pagemap_ram_page(gfp_t gfp, struct vm_area_struct *vma,
					 unsigned long addr)
{
	if (!drm_pagemap_inject(DRM_PAGEMAP_STEP_RAM_PAGE, 1))
		return NULL;

	return vma ? alloc_page_vma(gfp, vma, addr) : alloc_page(gfp);
}

static struct page *drm_pagemap_ram_block(gfp_t gfp, unsigned int order)
{
	if (!drm_pagemap_inject(DRM_PAGEMAP_STEP_RAM_BLOCK, 1))
		return NULL;

	/* Only what is at hand, on the node where single pages come from. */
	gfp &= ~__GFP_RECLAIM;
	return alloc_pages_node(numa_mem_id(),
				gfp | __GFP_THISNODE | __GFP_NOWARN, order);
}

/*
 * Allocate blocks of contiguous pages, which take one DMA mapping and one call
 * of the page allocator each, for up to @n pages.  Each page is one of its own
 * then, as if it had been allocated alone.  Returns their number.
 */
static unsigned long drm_pagemap_ram_blocks(gfp_t gfp, struct page **pages,
					    unsigned long n)
{
	unsigned int order = DRM_PAGEMAP_MAX_BLOCK;
	unsigned long got = 0, i;
	struct page *block;

	while (order >= DRM_PAGEMAP_MIN_BLOCK) {
		block = NULL;
		if (n - got >= 1UL << order)
			block = drm_pagemap_ram_block(gfp, order);
		if (!block) {
			order--;
			continue;
		}

		split_page(block, order);
		for (i = 0; i < 1UL << order; i++)
			pages[got++] = block + i;
	}

	return got;
}

/* Allocate up to @n pages, @pages being NULL.  Returns their number. */
static unsigned long drm_pagemap_ram_bulk(gfp_t gfp, struct page **pages,
					  unsigned long n)
{
	unsigned long got, last;

	n = drm_pagemap_inject(DRM_PAGEMAP_STEP_RAM_PAGE, n);
	got = drm_pagemap_ram_blocks(gfp, pages, n);
	while (got < n) {
		last = got;
		got = alloc_pages_bulk_array(gfp, n, pages);
		if (got == last)
			break;
	}

	return got;
}

/* A move of device pages to RAM, beside the arrays. */
struct drm_pagemap_ram_move {
	struct drm_pagemap_scratch *s;
	struct vm_area_struct *vma;	/* NULL for eviction */
	unsigned long start;		/* address of entry 0, with a VMA */
	unsigned long fault;		/* entry of the fault, if there is one */
	struct drm_pagemap_zdd *zdd;	/* whose pages, NULL for everybody's */
	gfp_t gfp;
	unsigned long moved;
	int err;
};

static struct page *drm_pagemap_migrating_page(unsigned long mpfn)
{
	return mpfn & MIGRATE_PFN_MIGRATE ? migrate_pfn_to_page(mpfn) : NULL;
}

/*
 * The window of a CPU fault is a property of the allocation, as is the
 * timeslice, so pages of other allocations in it stay where they are.
 */
static bool drm_pagemap_wants(const struct drm_pagemap_ram_move *r,
			      unsigned long i)
{
	struct page *page = drm_pagemap_migrating_page(r->s->src[i]);

	return page && (!r->zdd || page->zone_device_data == r->zdd);
}

/*
 * Have device pages that are broken not migrate.  What would be a huge page
 * without them comes back as base pages.  Returns the number of pages.
 */
static noinline unsigned long
drm_pagemap_drop_poisoned(unsigned long *src, unsigned long npages)
{
	unsigned long i, j, end, dropped, n = 0;
	struct page *page;

	for (i = 0; i < npages; i = end) {
		end = i + 1;
		page = drm_pagemap_migrating_page(src[i]);
		/* Of RAM, the mark of large folios means something else. */
		if (!page || !is_zone_device_page(page))
			continue;
		if (src[i] & MIGRATE_PFN_LARGE)
			end = i + DRM_PAGEMAP_HUGE;
		dropped = 0;
		for (j = i; j < end; j++) {
			page = drm_pagemap_migrating_page(src[j]);
			if (!page || !PageHWPoison(page))
				continue;
			src[j] &= ~MIGRATE_PFN_MIGRATE;
			dropped++;
		}
		for (j = i; dropped && j < end; j++)
			src[j] &= ~MIGRATE_PFN_LARGE;
		n += dropped;
	}

	return n;
}

/*
 * Mark the pages that are wanted and have no place yet in s->dst.  Returns their
 * number.
 */
static unsigned long
drm_pagemap_mark_wanted(const struct drm_pagemap_ram_move *r)
{
	unsigned long *dst = r->s->dst;
	unsigned long i, n = 0;

	for (i = 0; i < r->s->npages; i++) {
		if (dst[i]) {
			i += DRM_PAGEMAP_HUGE - 1;
			continue;
		}
		if (drm_pagemap_wants(r, i)) {
			dst[i] = MIGRATE_PFN_VALID;
			n++;
		}
	}

	return n;
}

/*
 * Make a new page of RAM, which nobody else knows yet, ready to be moved to.
 *
 * The device may have written to the page that moves, of which neither page
 * tables nor flags tell: without being marked as dirty, what the process gave to
 * MADV_FREE before could still be dropped.
 */
static unsigned long drm_pagemap_prepare_ram(struct page *ram)
{
	struct folio *folio = page_folio(ram);

	__folio_set_locked(folio);
	folio_set_dirty(folio);

	return page_to_pfn(ram);
}

/* Whether the pages from entry @i on, which migrate, are wanted and of one allocation */
static bool drm_pagemap_wants_huge(const struct drm_pagemap_ram_move *r,
				   unsigned long i)
{
	const unsigned long *src = r->s->src;
	unsigned long end = i + DRM_PAGEMAP_HUGE;
	void *zdd = migrate_pfn_to_page(src[i])->zone_device_data;

	if (r->zdd && r->zdd != zdd)
		return false;

	while (++i < end)
		if (pfn_to_page(src[i] >> MIGRATE_PFN_SHIFT)->zone_device_data != zdd)
			return false;

	return true;
}

/*
 * A huge page, if there is one at hand: base pages do as well.  For eviction it
 * comes from where base pages come from.
 */
static struct folio *drm_pagemap_ram_huge(const struct drm_pagemap_ram_move *r,
					  unsigned long i)
{
	gfp_t gfp = GFP_TRANSHUGE_LIGHT | __GFP_NORETRY | __GFP_NOWARN;

	if (!drm_pagemap_inject(DRM_PAGEMAP_STEP_RAM_HUGE, 1))
		return NULL;

	if (r->vma)
		return vma_alloc_folio(gfp, PMD_ORDER, r->vma,
				       r->start + (i << PAGE_SHIFT), true);

	return __folio_alloc_node(gfp | __GFP_THISNODE, PMD_ORDER,
				  numa_mem_id());
}

/*
 * Have pages that are wanted move to huge pages, as far as they can: s->dst has
 * their places then.
 */
static void drm_pagemap_alloc_ram_huge(struct drm_pagemap_ram_move *r)
{
	struct drm_pagemap_scratch *s = r->s;
	unsigned long i = 0, end, pfn;
	struct folio *folio;

	while (i < s->npages) {
		if (!(s->src[i] & MIGRATE_PFN_LARGE)) {
			i++;
			continue;
		}

		end = i + DRM_PAGEMAP_HUGE;
		folio = NULL;
		if (drm_pagemap_wants_huge(r, i))
			folio = drm_pagemap_ram_huge(r, i);
		if (!folio) {
			i = end;
			continue;
		}

		for (pfn = drm_pagemap_prepare_ram(&folio->page); i < end; i++)
			s->dst[i] = migrate_pfn(pfn++);
	}
}

/* One by one, where the VMA's NUMA policy says. */
static void drm_pagemap_alloc_ram_policy(struct drm_pagemap_ram_move *r,
					 struct page *fault_ram,
					 struct page **pages)
{
	struct drm_pagemap_scratch *s = r->s;
	unsigned long i, k = 0;

	for (i = 0; i < s->npages; i++) {
		if (s->dst[i] != MIGRATE_PFN_VALID)
			continue;

		pages[k++] = i == r->fault ? fault_ram :
			     drm_pagemap_ram_page(r->gfp, r->vma, r->start +
						  (i << PAGE_SHIFT));
	}
}

/* All @n at once. */
static void drm_pagemap_alloc_ram_bulk(struct drm_pagemap_ram_move *r,
				       struct page *fault_ram,
				       struct page **pages, unsigned long n)
{
	struct drm_pagemap_scratch *s = r->s;
	unsigned long i, k = 0;

	memset(pages, 0, n * sizeof(*pages));
	if (!fault_ram) {
		drm_pagemap_ram_bulk(r->gfp, pages, n);
		return;
	}

	if (n > 1)
		drm_pagemap_ram_bulk(r->gfp, pages, n - 1);
	/* The others stay in the place that contiguous RAM has for them. */
	for (i = 0; i < r->fault; i++)
		k += s->dst[i] == MIGRATE_PFN_VALID;
	pages[n - 1] = pages[k];
	pages[k] = fault_ram;
}

/*
 * Give the pages that are wanted and have no place yet the RAM in @ram, as far as
 * there is some.  Then s->pages has the device pages that move.  @ram is the end
 * of that array, so that each entry is read before it is written.
 */
static void drm_pagemap_assign_ram(struct drm_pagemap_ram_move *r,
				   struct page **ram)
{
	struct drm_pagemap_scratch *s = r->s;
	unsigned long *src = s->src, *dst = s->dst, *pfns = s->ram;
	struct page **pages = s->pages, *page;
	unsigned long i, k = 0;

	for (i = 0; i < s->npages; i++) {
		if (!dst[i])
			continue;

		if (dst[i] == MIGRATE_PFN_VALID) {
			page = *ram++;
			if (!page) {
				dst[i] = 0;
				r->err = -ENOMEM;
				continue;
			}
			dst[i] = migrate_pfn(drm_pagemap_prepare_ram(page));
		}

		pages[k] = pfn_to_page(src[i] >> MIGRATE_PFN_SHIFT);
		VM_WARN_ON_ONCE(!PageLocked(pages[k]));
		pfns[k++] = dst[i] >> MIGRATE_PFN_SHIFT;
	}
	s->ncopy = k;
}

/* Free the RAM of entry @i, all of a huge page.  Returns the number of entries. */
static unsigned long drm_pagemap_put_ram(struct drm_pagemap_scratch *s,
					 unsigned long i)
{
	struct folio *folio = page_folio(migrate_pfn_to_page(s->dst[i]));
	unsigned long nr = folio_nr_pages(folio);

	memset(s->dst + i, 0, nr * sizeof(*s->dst));
	folio_unlock(folio);
	folio_put(folio);

	return nr;
}

static int drm_pagemap_alloc_ram(struct drm_pagemap_ram_move *r)
{
	struct drm_pagemap_scratch *s = r->s;
	struct page *fault_ram = NULL, **pages;
	unsigned long i, n;

	s->ncopy = 0;
	memset(s->dst, 0, s->npages * sizeof(*s->dst));
	drm_pagemap_alloc_ram_huge(r);
	n = drm_pagemap_mark_wanted(r);

	/* A thread waits for the page of the fault: take it first, and try harder. */
	if (r->vma && r->fault < s->npages &&
	    s->dst[r->fault] == MIGRATE_PFN_VALID) {
		fault_ram = drm_pagemap_ram_page(GFP_HIGHUSER_MOVABLE, r->vma,
						 r->start +
						 (r->fault << PAGE_SHIFT));
		if (!fault_ram)
			goto err_put;
	}

	pages = s->pages + s->npages - n;
	if (drm_pagemap_has_policy(r->vma))
		drm_pagemap_alloc_ram_policy(r, fault_ram, pages);
	else if (n)
		drm_pagemap_alloc_ram_bulk(r, fault_ram, pages, n);
	drm_pagemap_assign_ram(r, pages);

	return 0;

err_put:
	for (i = 0; i < s->npages; i++) {
		if (s->dst[i] == MIGRATE_PFN_VALID)
			s->dst[i] = 0;
		else if (s->dst[i])
			i += drm_pagemap_put_ram(s, i) - 1;
	}
	return -ENOMEM;
}

/* Free the RAM of the pages from @first to @end, which do not move. */
static void drm_pagemap_drop_ram(struct drm_pagemap_scratch *s,
				 unsigned long first, unsigned long end)
{
	unsigned long i, n, k = 0;
	struct page *page;

	for (i = 0; i < s->npages && k < end; i += n) {
		n = 1;
		page = migrate_pfn_to_page(s->src[i]);
		if (!page || k == s->ncopy || s->pages[k] != page)
			continue;
		/* The pages of a huge page are of one allocation. */
		if (k >= first)
			n = drm_pagemap_put_ram(s, i);
		k += n;
	}
}

/* Copy pages of one allocation to RAM. */
static int drm_pagemap_copy_group_to_ram(struct drm_pagemap_scratch *s,
					 struct drm_pagemap_devmem *devmem,
					 unsigned long first, unsigned long end)
{
	int err;

	err = drm_pagemap_dma_map(devmem->dev, s, first, end, DMA_FROM_DEVICE,
				  0);
	if (err)
		return err;

	err = devmem->ops->copy_to_ram(s->pages + first, s->dma + first,
				       end - first);
	/* Before the pages are seen: bounce buffers are copied back here. */
	drm_pagemap_dma_unmap(devmem->dev, s, first, end, DMA_FROM_DEVICE);

	return err;
}

/*
 * A page that broke while it was copied does not move, nor does what was copied to
 * the same huge page.
 */
static noinline void drm_pagemap_drop_broken(struct drm_pagemap_scratch *s)
{
	unsigned long i, j, end;
	struct page *page;

	for (i = 0; i < s->npages; i = end) {
		end = i + 1;
		page = migrate_pfn_to_page(s->dst[i]);
		if (!page)
			continue;
		end = i + folio_nr_pages(page_folio(page));
		for (j = i; j < end; j++)
			if (PageHWPoison(migrate_pfn_to_page(s->src[j])))
				break;
		if (j < end)
			drm_pagemap_put_ram(s, i);
	}
}

/*
 * Allocate RAM for the locked and unmapped device pages in s->src and copy
 * them, allocation by allocation.  Those that were not copied have no entry in
 * s->dst and do not move.
 */
static void drm_pagemap_copy_to_ram(struct drm_pagemap_ram_move *r)
{
	struct drm_pagemap_scratch *s = r->s;
	struct drm_pagemap_devmem *devmem;
	struct drm_pagemap_zdd *zdd;
	unsigned long first, end;
	int err;

	if (READ_ONCE(drm_pagemap_has_poison))
		drm_pagemap_drop_poisoned(s->src, s->npages);
	err = drm_pagemap_alloc_ram(r);
	if (err) {
		r->err = err;
		return;
	}

	for (first = 0; first < s->ncopy; first = end) {
		zdd = s->pages[first]->zone_device_data;
		devmem = zdd->devmem;
		for (end = first + 1; end < s->ncopy; end++)
			if (s->pages[end]->zone_device_data != zdd)
				break;

		/* Faults that sleep for it wake up as the pages are freed. */
		if (!r->vma)
			WRITE_ONCE(devmem->timeslice_expiration, 0);
		err = drm_pagemap_copy_group_to_ram(s, devmem, first, end);
		if (!err)
			continue;

		drm_pagemap_drop_ram(s, first, end);
		drm_pagemap_count(zdd->region, DRM_PAGEMAP_TO_RAM_FAILS, 1);
		r->err = err;
	}

	if (READ_ONCE(drm_pagemap_has_poison))
		drm_pagemap_drop_broken(s);
}

static unsigned long drm_pagemap_count_moved(const struct drm_pagemap_scratch *s)
{
	const unsigned long *src = s->src, *dst = s->dst;
	unsigned long i, moved = 0;

	for (i = 0; i < s->npages; i++)
		moved += dst[i] && (src[i] & MIGRATE_PFN_MIGRATE);

	return moved;
}

/*
 * CPU faults.  do_swap_page() has locked vmf->page and holds a reference on it,
 * and the mmap lock is held for reading.
 */

/*
 * Leave the page to the device until its timeslice is over.  Only the process
 * that asked for the timeslice waits for it, and only for pages of its own: not
 * one that shares them since a fork().
 */
static unsigned long drm_pagemap_fault_delay(struct vm_fault *vmf)
{
	struct drm_pagemap_zdd *zdd = vmf->page->zone_device_data;
	u64 expires = READ_ONCE(zdd->devmem->timeslice_expiration);
	u64 now = get_jiffies_64();

	VM_WARN_ON_ONCE(!PageLocked(vmf->page));

	if (!expires || time_after_eq64(now, expires))
		return 0;
	if (vmf->vma->vm_mm != zdd->mm ||
	    folio_mapcount(page_folio(vmf->page)) != 1)
		return 0;

	drm_pagemap_count(zdd->region, DRM_PAGEMAP_TIMESLICE_SLEEPS, 1);

	return min_t(u64, expires - now, MAX_JIFFY_OFFSET);
}

/*
 * Migrate a window around the fault.  Returns whether the faulting page moved,
 * or a negative errno why it could not.
 */
static int drm_pagemap_fault_window_to_ram(struct vm_fault *vmf,
					   struct drm_pagemap_window window,
					   struct drm_pagemap_scratch *s)
{
	struct drm_pagemap_zdd *zdd = vmf->page->zone_device_data;
	struct device *dev = zdd->devmem->dev;
	struct migrate_vma migrate = {
		.vma = vmf->vma,
		.src = s->src,
		.dst = s->dst,
		.start = window.start,
		.end = window.end,
		.pgmap_owner = zdd->owner,
		.flags = MIGRATE_VMA_SELECT_DEVICE_PRIVATE | MIGRATE_VMA_LARGE,
		.fault_page = vmf->page,
	};
	struct drm_pagemap_ram_move r = {
		.s = s,
		.vma = vmf->vma,
		.start = window.start,
		.fault = ((vmf->address & PAGE_MASK) - window.start) >>
			 PAGE_SHIFT,
		.zdd = zdd,
		.gfp = GFP_HIGHUSER_MOVABLE | __GFP_NORETRY | __GFP_NOWARN,
	};
	bool done = false;
	int err;

	mmap_assert_locked(vmf->vma->vm_mm);
	VM_WARN_ON_ONCE(!PageLocked(vmf->page));

	err = migrate_vma_setup(&migrate);
	if (err)
		return err;

	if (migrate.cpages) {
		drm_pagemap_copy_to_ram(&r);
		migrate_vma_pages(&migrate);
		done = s->dst[r.fault] && (s->src[r.fault] & MIGRATE_PFN_MIGRATE);
		r.moved = drm_pagemap_count_moved(s);
	}
	migrate_vma_finalize(&migrate);

	/* A page that went away on its own is not an error. */
	err = done ? 0 : r.err;
	trace_drm_pagemap_fault(dev, vmf->address, window.start, window.end,
				r.moved, err);
	drm_pagemap_count(zdd->region, DRM_PAGEMAP_PAGES_FAULTED, r.moved);

	return err ?: done;
}

/* Needs no memory but the page to move to. */
static int drm_pagemap_fault_page_to_ram(struct vm_fault *vmf)
{
	unsigned long page = vmf->address & PAGE_MASK;
	struct drm_pagemap_window window = { page, page + PAGE_SIZE };
	struct drm_pagemap_single one;

	return drm_pagemap_fault_window_to_ram(vmf, window,
					       drm_pagemap_single_init(&one));
}

/*
 * The neighbours of the faulting page are best effort: should the whole window
 * fail for any reason, the page is tried alone.
 */
static int drm_pagemap_fault_to_ram(struct vm_fault *vmf,
				    struct drm_pagemap_window window)
{
	unsigned long npages = (window.end - window.start) >> PAGE_SHIFT;
	struct drm_pagemap_scratch s;
	int ret = 0;

	if (npages > 1 && !drm_pagemap_scratch_alloc(&s, npages)) {
		ret = drm_pagemap_fault_window_to_ram(vmf, window, &s);
		drm_pagemap_scratch_free(&s);
	}

	return ret > 0 ? ret : drm_pagemap_fault_page_to_ram(vmf);
}

static struct drm_pagemap_window
drm_pagemap_fault_window_of(const struct vm_fault *vmf)
{
	const struct drm_pagemap_zdd *zdd = vmf->page->zone_device_data;
	unsigned long window = zdd->devmem->fault_window;

	/*
	 * An access on behalf of a device or of another process does not show
	 * where the process itself is going to work.
	 */
	if (vmf->flags & FAULT_FLAG_REMOTE ||
	    !(vmf->flags & FAULT_FLAG_ALLOW_RETRY))
		window = PAGE_SIZE;

	return drm_pagemap_fault_window(vmf->address,
					vmf->page->index - zdd->pgoff,
					zdd->npages, window,
					vmf->vma->vm_start, vmf->vma->vm_end);
}

static vm_fault_t drm_pagemap_migrate_to_ram(struct vm_fault *vmf)
{
	struct drm_pagemap_zdd *zdd = vmf->page->zone_device_data;
	unsigned long deadline = jiffies + DRM_PAGEMAP_FAULT_TIMEOUT;
	long delay = 1;
	int ret;

	drm_pagemap_count(zdd->region, DRM_PAGEMAP_CPU_FAULTS, 1);
	ret = drm_pagemap_fault_to_ram(vmf, drm_pagemap_fault_window_of(vmf));
	while (ret == -EAGAIN && time_before(jiffies, deadline) &&
	       !fatal_signal_pending(current)) {
		schedule_timeout_killable(delay);
		delay *= 2;
		ret = drm_pagemap_fault_page_to_ram(vmf);
	}

	if (ret == -ENOMEM || ret == -EAGAIN)
		return VM_FAULT_OOM;
	if (ret < 0)
		return VM_FAULT_SIGBUS;

	/*
	 * Another thread holds a reference or the lock of the page.  The access
	 * is retried at once, so give it a moment rather than the CPU.
	 */
	if (!ret)
		schedule_timeout_uninterruptible(1);

	return 0;
}

/* From here on, nobody but the next owner changes the flags of the page. */
static void drm_pagemap_page_forget(struct page *page)
{
	/* Pairs with drm_pagemap_poison_mark(). */
	smp_store_release(&page->zone_device_data, NULL);
}

static void drm_pagemap_page_free(struct page *page)
{
	struct drm_pagemap_zdd *zdd = page->zone_device_data;

	drm_pagemap_page_forget(page);
	drm_pagemap_zdd_put(zdd);
}

/* Pages that are freed together are mostly of one allocation. */
static void drm_pagemap_folios_free(struct folio **folios, unsigned int nr)
{
	struct drm_pagemap_zdd *zdd;
	unsigned int i, n;

	for (i = 0; i < nr; i += n) {
		zdd = folios[i]->page.zone_device_data;
		for (n = 0; i + n < nr; n++) {
			struct page *page = &folios[i + n]->page;

			if (page->zone_device_data != zdd)
				break;
			drm_pagemap_page_forget(page);
		}
		drm_pagemap_zdd_put_many(zdd, n);
	}
}

/**
 * drm_pagemap_page_to_dpagemap() - The memory that a device page is part of
 * @page: A device page in use, which the caller keeps in use by a reference, the
 *        page lock or an mmu notifier.
 *
 * Context: Any.
 * Return: The struct drm_pagemap of the page's allocation.
 */
struct drm_pagemap *drm_pagemap_page_to_dpagemap(struct page *page)
{
	struct drm_pagemap_zdd *zdd = page->zone_device_data;

	return zdd->devmem->dpagemap;
}
EXPORT_SYMBOL_GPL(drm_pagemap_page_to_dpagemap);

/*
 * Eviction.
 */

/*
 * Move the device pages in s->src, given by their pfns, to RAM.  No mm, VMA or
 * mmap lock is involved: the pages are found and unmapped by what the pages
 * themselves know.
 */
static unsigned long drm_pagemap_evict_pass(struct drm_pagemap_scratch *s,
					    int *err)
{
	struct drm_pagemap_ram_move r = {
		.s = s,
		.gfp = GFP_HIGHUSER_MOVABLE | __GFP_RETRY_MAYFAIL | __GFP_NOWARN,
	};

	migrate_device_pfns(s->src, s->npages);
	drm_pagemap_copy_to_ram(&r);
	migrate_device_pages(s->src, s->dst, s->npages);
	r.moved = drm_pagemap_count_moved(s);
	migrate_device_finalize(s->src, s->dst, s->npages);

	*err = r.err;
	return r.moved;
}

/*
 * The state of an eviction that is retried for as long as there is progress.
 */
struct drm_pagemap_retry {
	unsigned long moved;
	unsigned long deadline;
	unsigned int errors;
	long delay;
};

static void drm_pagemap_retry_init(struct drm_pagemap_retry *retry)
{
	*retry = (struct drm_pagemap_retry) {
		.deadline = jiffies + DRM_PAGEMAP_EVICT_TIMEOUT,
		.delay = 1,
	};
}

/*
 * Account a pass.  Returns 0 to try again after retry->delay, or why not.  A
 * lack of DMA mappings is over when others are done with theirs, so that it is
 * waited for, as busy pages are.
 */
static int drm_pagemap_retry_pass(struct drm_pagemap_retry *retry,
				  unsigned long moved, int err)
{
	if (moved) {
		retry->moved += moved;
		retry->deadline = jiffies + DRM_PAGEMAP_EVICT_TIMEOUT;
		retry->errors = 0;
		retry->delay = 1;
		return 0;
	}

	retry->delay = min(retry->delay * 2, HZ / 10);
	if (err && err != -EAGAIN &&
	    ++retry->errors >= DRM_PAGEMAP_EVICT_ERRORS)
		return err;

	return time_after(jiffies, retry->deadline) ? err ?: -EBUSY : 0;
}

/*
 * An eviction of @npages pages, those in @pfns, or those from @first on if there
 * is no list; and its result.
 */
struct drm_pagemap_eviction {
	const unsigned long *pfns;
	unsigned long first;
	unsigned long npages;
	struct drm_pagemap_scratch *s;
	struct drm_pagemap_region *region;
	unsigned long used;
	unsigned long moved;
	int err;
};

static void drm_pagemap_evict_batch(struct drm_pagemap_eviction *e,
				    unsigned long n)
{
	unsigned long moved;
	int err;

	e->s->npages = n;
	moved = drm_pagemap_evict_pass(e->s, &err);
	drm_pagemap_count(e->region, DRM_PAGEMAP_PAGES_EVICTED, moved);
	e->used += n;
	e->moved += moved;
	e->err = err ?: e->err;
}

/*
 * Try once to move the pages that are in use.  Not more are locked at a time
 * than there is room for in e->s, and a batch ends where a huge page does, if
 * the process has not moved the memory.
 */
static void drm_pagemap_evict_pages(struct drm_pagemap_eviction *e)
{
	unsigned long room = e->s->npages;
	unsigned long i, pfn, n = 0;
	struct page *page;

	e->used = 0;
	e->moved = 0;
	e->err = 0;
	for (i = 0; i < e->npages; i++) {
		pfn = e->pfns ? e->pfns[i] : e->first + i;
		page = pfn_to_page(pfn);
		if (page_ref_count(page)) {
			if (n && IS_ALIGNED(READ_ONCE(page->index),
					    DRM_PAGEMAP_HUGE)) {
				drm_pagemap_evict_batch(e, n);
				n = 0;
			}
			e->s->src[n++] = pfn;
		}
		if (n == room) {
			drm_pagemap_evict_batch(e, n);
			n = 0;
		}
		if (!(i % DRM_PAGEMAP_EVICT_BATCH))
			cond_resched();
	}
	if (n)
		drm_pagemap_evict_batch(e, n);
	e->s->npages = room;
}

/**
 * DOC: Memory failure
 *
 * When a page of device memory turns out to be broken, its contents are lost.  The
 * mm core tells of it, by &dev_pagemap_ops.memory_failure, for memory that the
 * CPU reaches or a physical address that is injected; a driver that learns of it
 * from its hardware calls drm_pagemap_memory_failure().
 *
 * The page is marked, by PageHWPoison(), and unmapped for good.  A process that
 * accesses the address after that gets a SIGBUS with BUS_MCEERR_AR, as for RAM,
 * and a device a fault that cannot be served; all other pages of the allocation
 * are as before.  Discarding the memory with munmap() or MADV_DONTNEED gives the
 * process a new page there.
 *
 * The page counts as freed then: its allocation can be evicted, and its region
 * unplugged.  It is up to the driver not to use it again, by leaving out pages
 * with PageHWPoison() when it allocates.  A migration to one fails.  The mark
 * stays until the region goes.
 *
 * A page that is pinned, which only coherent ones can be, may have to stay mapped
 * until the pin ends and something moves the page: the report says so by -EBUSY.
 */

/*
 * Unmap a broken page, wherever it is mapped.  Others may be about to migrate it,
 * which ends in the same way.
 */
static int drm_pagemap_poison_unmap(struct page *page)
{
	unsigned long deadline = jiffies + DRM_PAGEMAP_EVICT_TIMEOUT;
	struct drm_pagemap_single one;
	struct drm_pagemap_eviction e = {
		.first = page_to_pfn(page),
		.npages = 1,
		.s = drm_pagemap_single_init(&one),
	};

	for (;;) {
		drm_pagemap_evict_pages(&e);
		if (!page_mapped(page))
			return 0;
		if (time_after(jiffies, deadline))
			return -EBUSY;
		schedule_timeout_uninterruptible(1);
	}
}

/*
 * Mark a page as broken.  Its flags must not be in the hands of someone who takes
 * it into use or frees it, and does not expect that they change: wait for that.
 * Returns whether it was not marked before.
 */
static bool drm_pagemap_poison_mark(struct page *page)
{
	bool used;

	guard(mutex)(&drm_pagemap_poison_lock);
	if (PageHWPoison(page))
		return false;

	WRITE_ONCE(drm_pagemap_has_poison, true);
	for (;;) {
		used = get_page_unless_zero(page);
		/* Pairs with drm_pagemap_page_forget(). */
		if (used || !smp_load_acquire(&page->zone_device_data))
			break;
		schedule_timeout_uninterruptible(1);
	}
	SetPageHWPoison(page);
	/* A migration sees the flag, or its reference was seen here. */
	smp_mb__after_atomic();
	if (used)
		put_page(page);

	return true;
}

/**
 * drm_pagemap_memory_failure() - Stop using a broken page
 * @page: A device page of this layer, in use or not.  The caller keeps its struct
 *        dev_pagemap.
 *
 * See "Memory failure".
 *
 * Context: Process context, may sleep.  The caller must not hold a lock that an
 * mmu notifier or a callback of this layer takes, nor be such a callback.
 *
 * Return: 0 if no process can access the page any more, or
 *
 * * -EHWPOISON: it was known to be broken.
 * * -EBUSY: it is still mapped, since it is pinned.
 * * -EOPNOTSUPP: without CONFIG_MEMORY_FAILURE.
 */
int drm_pagemap_memory_failure(struct page *page)
{
	struct drm_pagemap_region *region;

	if (!IS_ENABLED(CONFIG_MEMORY_FAILURE))
		return -EOPNOTSUPP;
	if (!drm_pagemap_poison_mark(page))
		return -EHWPOISON;

	region = drm_pagemap_region_of(page_to_pfn(page));
	if (region) {
		drm_pagemap_count(region, DRM_PAGEMAP_PAGES_POISONED, 1);
		drm_pagemap_parts_note_broken(region, page_to_pfn(page));
	}

	return drm_pagemap_poison_unmap(page);
}
EXPORT_SYMBOL_GPL(drm_pagemap_memory_failure);

static int drm_pagemap_pgmap_failure(struct dev_pagemap *pgmap,
				     unsigned long pfn, unsigned long nr_pages,
				     int mf_flags)
{
	int err, ret = 0;

	for (; nr_pages--; pfn++) {
		err = drm_pagemap_memory_failure(pfn_to_page(pfn));
		if (err && err != -EHWPOISON)
			ret = err;
	}

	return ret;
}

static const struct dev_pagemap_ops drm_pagemap_pagemap_ops = {
	.page_free = drm_pagemap_page_free,
	.folios_free = drm_pagemap_folios_free,
	.migrate_to_ram = drm_pagemap_migrate_to_ram,
	.fault_delay = drm_pagemap_fault_delay,
	.memory_failure = drm_pagemap_pgmap_failure,
};

/**
 * drm_pagemap_pagemap_ops_get() - Operations for a driver's own struct
 * dev_pagemap
 *
 * For drivers that call memremap_pages() themselves instead of
 * devm_drm_pagemap_region_add().  Such a driver makes sure on unbind, before
 * memunmap_pages(), that nothing is migrated to its memory any more and that
 * all of its allocations are evicted.  memunmap_pages() waits for the releases
 * that are due.
 *
 * Context: Any.
 * Return: The operations.
 */
const struct dev_pagemap_ops *drm_pagemap_pagemap_ops_get(void)
{
	return &drm_pagemap_pagemap_ops;
}
EXPORT_SYMBOL_GPL(drm_pagemap_pagemap_ops_get);

/*
 * Migration to device memory: check, collect, choose pages, copy, commit.
 */
struct drm_pagemap_devmem_move {
	struct drm_pagemap_migration *mig;
	struct drm_pagemap_region *region;
	struct drm_pagemap_scratch s;
	struct migrate_vma migrate;
	struct drm_pagemap_zdd *zdd;
	struct drm_pagemap_peers peers;
	unsigned long wanted;	/* number of pages that are to move */
	unsigned long *pfns;	/* of the allocation */
	/* The memory of the last page that was checked. */
	struct dev_pagemap *pgmap;
	unsigned long memory_pfn;
	unsigned long memory_npages;
	bool has_holes;
	bool large;		/* large folios migrate as a whole */
	bool with_peers;	/* device pages are collected, too */
};

static bool drm_pagemap_is_partial(const struct drm_pagemap_migration *mig)
{
	return mig->flags & DRM_PAGEMAP_MIGRATE_PARTIAL;
}

static int drm_pagemap_check_devmem(const struct drm_pagemap_migration *mig,
				    unsigned long npages)
{
	const struct drm_pagemap_devmem *devmem = mig->devmem;

	if (!devmem->ops || !devmem->ops->populate_devmem_pfn ||
	    !devmem->ops->copy_to_devmem || !devmem->ops->copy_to_ram)
		return -EOPNOTSUPP;
	if (devmem->size >> PAGE_SHIFT < npages ||
	    devmem->dpagemap != mig->dpagemap)
		return -EINVAL;

	return 0;
}

static int drm_pagemap_check_args(struct drm_pagemap_devmem_move *m)
{
	const struct drm_pagemap_migration *mig = m->mig;
	unsigned long npages;
	struct vm_area_struct *vma;
	int err;

	mmap_assert_locked(mig->mm);

	if (!PAGE_ALIGNED(mig->start | mig->end) || mig->start >= mig->end ||
	    mig->flags & ~(DRM_PAGEMAP_MIGRATE_PARTIAL |
			   DRM_PAGEMAP_MIGRATE_PEERS))
		return -EINVAL;
	if (!mig->devmem && (!mig->alloc || !mig->dpagemap))
		return -EINVAL;

	if (mig->devmem) {
		npages = (mig->end - mig->start) >> PAGE_SHIFT;
		err = drm_pagemap_check_devmem(mig, drm_pagemap_is_partial(mig) ?
					       1 : npages);
		if (err)
			return err;
	}

	vma = vma_lookup(mig->mm, mig->start);
	if (!vma)
		return -ENOENT;
	if (mig->end > vma->vm_end)
		return -EINVAL;
	if (!vma_is_anonymous(vma))
		return -EBUSY;

	m->migrate.vma = vma;
	return 0;
}

static bool drm_pagemap_takes_from_peers(const struct drm_pagemap_migration *mig)
{
	return mig->flags & DRM_PAGEMAP_MIGRATE_PEERS && mig->dpagemap &&
	       mig->dpagemap->ops && mig->dpagemap->ops->copy_from_peer;
}

/*
 * Of the device pages that were collected, those that cannot come from a peer
 * do not move.
 */
static int drm_pagemap_collect_peers(struct drm_pagemap_devmem_move *m)
{
	struct drm_pagemap_peers *peers = &m->peers;
	int err;

	m->wanted = m->migrate.cpages;
	if (!m->with_peers)
		return 0;
	if (READ_ONCE(drm_pagemap_has_poison))
		m->wanted -= drm_pagemap_drop_poisoned(m->s.src, m->s.npages);

	peers->dpagemap = m->mig->dpagemap;
	err = drm_pagemap_peers_map(peers, m->s.src, m->s.npages);
	m->wanted -= peers->own + peers->found - peers->nmapped;

	return err;
}

/* Lock and unmap the pages of the range. */
static int drm_pagemap_collect_range(struct drm_pagemap_devmem_move *m)
{
	struct drm_pagemap_migration *mig = m->mig;
	int err;

	mmap_assert_locked(mig->mm);

	m->migrate.src = m->s.src;
	m->migrate.dst = m->s.dst;
	m->migrate.start = mig->start;
	m->migrate.end = mig->end;
	m->migrate.pgmap_owner = mig->pgmap_owner;
	m->migrate.flags = MIGRATE_VMA_SELECT_SYSTEM;
	if (m->large)
		m->migrate.flags |= MIGRATE_VMA_LARGE;
	if (m->with_peers)
		m->migrate.flags |= DRM_PAGEMAP_SELECT_DEVMEM;

	err = migrate_vma_setup(&m->migrate);
	if (err)
		return err;

	err = drm_pagemap_collect_peers(m);
	if (!err && m->wanted < m->s.npages && !drm_pagemap_is_partial(mig))
		err = -EBUSY;
	if (err) {
		drm_pagemap_peers_unmap(&m->peers);
		migrate_vma_finalize(&m->migrate);
	}

	return err;
}

static int drm_pagemap_obtain_devmem(struct drm_pagemap_devmem_move *m)
{
	struct drm_pagemap_migration *mig = m->mig;
	struct drm_pagemap_devmem *devmem;

	if (mig->devmem)
		return 0;

	devmem = mig->alloc(mig, m->wanted);
	if (IS_ERR(devmem))
		return PTR_ERR(devmem);

	mig->devmem = devmem;
	return drm_pagemap_check_devmem(mig, m->wanted);
}

/*
 * Ask for the first @n pages of the allocation.  Drivers may give them all,
 * whatever they are asked for.
 */
static int drm_pagemap_obtain_pfns(struct drm_pagemap_devmem_move *m,
				   unsigned long n)
{
	struct drm_pagemap_devmem *devmem = m->mig->devmem;

	m->pfns = drm_pagemap_pfns_alloc(devmem);
	if (!m->pfns)
		return -ENOMEM;

	return devmem->ops->populate_devmem_pfn(devmem, n, m->pfns);
}

/* A page of the wrong kind would make CPU faults repeat for ever. */
static bool drm_pagemap_memory_is_fit(struct drm_pagemap_devmem_move *m,
				      unsigned long pfn)
{
	struct dev_pagemap *pgmap;

	if (m->region && !drm_pagemap_part_in_use(m->region, pfn))
		return false;
	if (WARN_ON_ONCE(!pfn_valid(pfn) ||
			 !drm_pagemap_page_is_devmem(pfn_to_page(pfn),
						     m->mig->pgmap_owner)))
		return false;

	/*
	 * drm_pagemap_hold_pgmap() holds that of the last page, which is enough:
	 * the removal of a region waits for all of its parts.
	 */
	pgmap = page_pgmap(pfn_to_page(pfn));
	if (!m->pgmap || m->region)
		m->pgmap = pgmap;

	return pgmap == m->pgmap && pgmap->owner == m->mig->pgmap_owner &&
	       (m->region ? drm_pagemap_region_has_pfn(m->region, pfn) :
			    pgmap->type == MEMORY_DEVICE_PRIVATE);
}

/* Remember which pages are as fit as this one. */
static bool drm_pagemap_find_memory(struct drm_pagemap_devmem_move *m,
				    unsigned long pfn)
{
	const struct range *range;
	int i;

	if (!drm_pagemap_memory_is_fit(m, pfn))
		return false;

	/* With broken pages about, each is looked at. */
	if (READ_ONCE(drm_pagemap_has_poison))
		return !PageHWPoison(pfn_to_page(pfn));

	for (i = 0; i < m->pgmap->nr_range; i++) {
		range = &m->pgmap->ranges[i];
		m->memory_pfn = PHYS_PFN(range->start);
		m->memory_npages = range_len(range) >> PAGE_SHIFT;
		if (pfn - m->memory_pfn < m->memory_npages)
			return true;
	}

	return false;
}

static __always_inline bool
drm_pagemap_page_is_fit(struct drm_pagemap_devmem_move *m, unsigned long pfn)
{
	return (likely(pfn - m->memory_pfn < m->memory_npages) ||
		drm_pagemap_find_memory(m, pfn)) &&
	       !WARN_ON_ONCE(page_ref_count(pfn_to_page(pfn)));
}

/* Make the data that the device pages will share. */
static int drm_pagemap_make_zdd(struct drm_pagemap_devmem_move *m)
{
	struct drm_pagemap_migration *mig = m->mig;

	m->zdd = drm_pagemap_zdd_create(mig->devmem, mig->pgmap_owner);
	if (!m->zdd)
		return -ENOMEM;

	m->zdd->region = m->region;
	m->zdd->mm = mig->mm;
	m->zdd->pgoff = linear_page_index(m->migrate.vma, mig->start);
	m->zdd->npages = m->s.npages;

	return 0;
}

static int drm_pagemap_hold_pgmap(struct drm_pagemap_zdd *zdd,
				  struct dev_pagemap *pgmap)
{
	if (!percpu_ref_tryget_live(&pgmap->ref))
		return -ENODEV;

	zdd->pgmap = pgmap;
	return 0;
}

/* The RAM of a page that migrates. */
static unsigned long drm_pagemap_source_pfn(struct drm_pagemap_devmem_move *m,
					    unsigned long mpfn)
{
	if (mpfn & MIGRATE_PFN_VALID)
		return mpfn >> MIGRATE_PFN_SHIFT;

	m->has_holes = true;
	return DRM_PAGEMAP_NO_PFN;
}

static bool drm_pagemap_is_devmem(unsigned long mpfn)
{
	return mpfn & MIGRATE_PFN_VALID &&
	       is_zone_device_page(migrate_pfn_to_page(mpfn));
}

/* Tell why a page is not fit: the fault of the driver, or bad luck. */
static int drm_pagemap_unfit(struct drm_pagemap_devmem_move *m,
			     unsigned long pfn, unsigned long nchosen)
{
	m->s.ncopy = nchosen;

	return pfn_valid(pfn) && is_zone_device_page(pfn_to_page(pfn)) &&
	       PageHWPoison(pfn_to_page(pfn)) ? -EHWPOISON : -EINVAL;
}

/* Have all of @n pages that were collected migrate: none is on a device. */
static int drm_pagemap_choose_all(struct drm_pagemap_devmem_move *m,
				  unsigned long n)
{
	struct drm_pagemap_scratch *s = &m->s;
	unsigned long *dst = s->dst, *ram = s->ram;
	struct drm_pagemap_zdd *zdd = m->zdd;
	unsigned long i, k = 0, mpfn, pfn;
	struct page *page;

	for (i = 0; k < n; i++) {
		mpfn = s->src[i];
		if (!(mpfn & MIGRATE_PFN_MIGRATE))
			continue;
		pfn = m->pfns[k];
		if (!drm_pagemap_page_is_fit(m, pfn))
			return drm_pagemap_unfit(m, pfn, k);

		page = pfn_to_page(pfn);
		page->zone_device_data = zdd;
		s->pages[k] = page;
		dst[i] = migrate_pfn(pfn);
		ram[k++] = drm_pagemap_source_pfn(m, mpfn);
	}
	s->ncopy = n;

	return 0;
}

/*
 * The same for @n pages in all kinds of places.  Those that are in place already,
 * or out of reach, get no destination.
 */
static int drm_pagemap_choose_some(struct drm_pagemap_devmem_move *m,
				   unsigned long n)
{
	struct drm_pagemap_scratch *s = &m->s;
	unsigned long i, k = 0, mpfn, pfn;
	struct page *page;

	for (i = 0; k < n; i++) {
		mpfn = s->src[i];
		if (!(mpfn & MIGRATE_PFN_MIGRATE))
			continue;
		pfn = m->pfns[k];
		if (!drm_pagemap_page_is_fit(m, pfn))
			return drm_pagemap_unfit(m, pfn, s->ncopy);

		page = pfn_to_page(pfn);
		if (!drm_pagemap_is_devmem(mpfn)) {
			s->pages[s->ncopy] = page;
			s->ram[s->ncopy++] = drm_pagemap_source_pfn(m, mpfn);
		} else if (!drm_pagemap_peers_take(&m->peers,
						   migrate_pfn_to_page(mpfn),
						   page)) {
			continue;
		}
		page->zone_device_data = m->zdd;
		s->dst[i] = migrate_pfn(pfn);
		k++;
	}

	return 0;
}

/*
 * Choose a device page for each page that migrates.  Those pages stay free
 * until the commit: on failure nothing but s->dst tells of them.
 */
static int drm_pagemap_choose_pages(struct drm_pagemap_devmem_move *m)
{
	unsigned long n;
	int err;

	n = min(m->wanted, m->mig->devmem->size >> PAGE_SHIFT);
	err = drm_pagemap_make_zdd(m);
	if (err || (!n && m->region))
		return err;

	/* If no page moves, the first one tells what the release has to hold. */
	err = drm_pagemap_obtain_pfns(m, max(n, 1UL));
	if (err)
		return err;
	if (!n && !drm_pagemap_page_is_fit(m, m->pfns[0]))
		return drm_pagemap_unfit(m, m->pfns[0], 0);

	err = m->peers.own || m->peers.found ? drm_pagemap_choose_some(m, n) :
					       drm_pagemap_choose_all(m, n);
	if (err)
		return err;

	return drm_pagemap_hold_pgmap(m->zdd, m->pgmap);
}

/* Map the page of zeroes that pages without contents are copied from. */
static int drm_pagemap_map_zero(struct drm_pagemap_devmem *devmem,
				dma_addr_t *zero)
{
	*zero = DMA_MAPPING_ERROR;
	if (drm_pagemap_inject(DRM_PAGEMAP_STEP_DMA_MAP, 1))
		*zero = dma_map_page(devmem->dev, ZERO_PAGE(0), 0, PAGE_SIZE,
				     DMA_TO_DEVICE);

	return dma_mapping_error(devmem->dev, *zero) ? -EFAULT : 0;
}

static int drm_pagemap_copy_to_devmem(struct drm_pagemap_devmem_move *m)
{
	struct drm_pagemap_devmem *devmem = m->mig->devmem;
	struct drm_pagemap_scratch *s = &m->s;
	dma_addr_t zero = 0;
	bool need_zero;
	int err;

	if (!s->ncopy)
		return 0;

	need_zero = m->has_holes && !(devmem->flags & DRM_PAGEMAP_DEVMEM_CLEARED);
	if (need_zero) {
		err = drm_pagemap_map_zero(devmem, &zero);
		if (err)
			return err;
	}

	err = drm_pagemap_dma_map(devmem->dev, s, 0, s->ncopy, DMA_TO_DEVICE,
				  zero);
	if (err) {
		err = -EFAULT;
		goto out_unmap_zero;
	}

	err = devmem->ops->copy_to_devmem(s->pages, s->dma, s->ncopy);
	drm_pagemap_dma_unmap(devmem->dev, s, 0, s->ncopy, DMA_TO_DEVICE);

out_unmap_zero:
	if (need_zero)
		dma_unmap_page(devmem->dev, zero, PAGE_SIZE, DMA_TO_DEVICE);
	return err;
}

/* Take the device pages into use, and make the process use them. */
static void drm_pagemap_commit_to_devmem(struct drm_pagemap_devmem_move *m)
{
	struct drm_pagemap_migration *mig = m->mig;
	struct drm_pagemap_scratch *s = &m->s;
	u64 expires = 0;

	WRITE_ONCE(mig->devmem->taken, true);
	drm_pagemap_zdd_get_many(m->zdd, s->ncopy + m->peers.ncopy);
	/* Only device pages will point to it, which kmemleak does not scan. */
	kmemleak_not_leak(m->zdd);
	zone_device_pages_init(s->pages, s->ncopy);
	zone_device_pages_init(m->peers.to, m->peers.ncopy);

	migrate_vma_pages(&m->migrate);
	mig->moved = drm_pagemap_count_moved(s);
	if (m->peers.ncopy)
		mig->from_peers = drm_pagemap_peers_account(s->src, s->dst,
							    s->npages);

	if (mig->timeslice_ms)
		expires = get_jiffies_64() + msecs_to_jiffies(mig->timeslice_ms);
	WRITE_ONCE(mig->devmem->timeslice_expiration, expires);
}

/*
 * A migration that is all or nothing moved only some pages: take them back.
 * Meanwhile they may also be freed, or brought back by others.  Returns -EBUSY for the
 * migration, with the allocation unused; or 0 if the pages cannot be brought
 * back, in which case the allocation is theirs.
 */
static int drm_pagemap_roll_back(struct drm_pagemap_devmem_move *m)
{
	struct drm_pagemap_devmem *devmem = m->mig->devmem;
	struct drm_pagemap_eviction e = {
		.pfns = m->pfns,
		.npages = m->s.npages,
		.s = &m->s,
		.region = m->region,
	};
	struct drm_pagemap_retry retry;

	drm_pagemap_retry_init(&retry);
	while (!drm_pagemap_zdd_disarm(m->zdd)) {
		drm_pagemap_evict_pages(&e);
		if (drm_pagemap_retry_pass(&retry, e.moved, e.err)) {
			drm_pagemap_zdd_put(m->zdd);
			return 0;
		}
		if (retry.delay > 1)
			schedule_timeout_uninterruptible(retry.delay);
	}

	WRITE_ONCE(devmem->taken, false);
	m->mig->moved = 0;
	m->mig->from_peers = 0;
	return -EBUSY;
}

static bool drm_pagemap_is_coherent(const struct drm_pagemap_region *region)
{
	return region && region->type == MEMORY_DEVICE_COHERENT;
}

/*
 * Find the pages of coherent memory that were in place by their pfns: one that is
 * pinned there cannot be collected.
 */
static void drm_pagemap_count_coherent(struct drm_pagemap_devmem_move *m)
{
	/* The mmap lock and the gate keep what is in place there. */
	struct mmu_interval_notifier none = { .mm = m->mig->mm };
	unsigned long *pfns = m->s.src, pfn, i;
	struct hmm_range range = {
		.notifier = &none,
		.start = m->mig->start,
		.end = m->mig->end,
		.hmm_pfns = pfns,
		.dev_private_owner = m->mig->pgmap_owner,
	};

	memset(pfns, 0, m->s.npages * sizeof(*pfns));
	if (hmm_range_fault(&range))
		return;

	for (i = 0; i < m->s.npages; i++) {
		pfn = pfns[i] & ~HMM_PFN_FLAGS;
		if (pfns[i] & HMM_PFN_VALID && !m->s.ram[i] &&
		    pfn - m->region->start_pfn < m->region->npages)
			m->mig->resident++;
	}
}

/*
 * For drm_pagemap_count_resident(), let s->ram tell what moved: it has served its
 * purpose, and of folios that moved as a whole the end of the migration leaves no
 * entries.
 */
static void drm_pagemap_note_moved(struct drm_pagemap_scratch *s)
{
	unsigned long i;

	for (i = 0; i < s->npages; i++)
		s->ram[i] = s->dst[i] && (s->src[i] & MIGRATE_PFN_MIGRATE);
}

/*
 * Tell pages that stayed behind from those that were there before, by a look at
 * the device pages of the range: they are collected and put back.
 */
static void drm_pagemap_count_resident(struct drm_pagemap_devmem_move *m)
{
	struct drm_pagemap_migration *mig = m->mig;
	struct drm_pagemap_scratch *s = &m->s;
	unsigned long i;
	struct page *page;

	mmap_assert_locked(mig->mm);

	/* They were collected with the others, and put back. */
	if (m->with_peers && !drm_pagemap_is_coherent(m->region)) {
		mig->resident = m->peers.own;
		return;
	}

	if (drm_pagemap_is_coherent(m->region)) {
		drm_pagemap_count_coherent(m);
		return;
	}

	m->migrate.flags = DRM_PAGEMAP_SELECT_DEVMEM;
	if (migrate_vma_setup(&m->migrate))
		return;

	for (i = 0; i < s->npages; i++) {
		page = drm_pagemap_migrating_page(s->src[i]);
		if (page && !s->ram[i] &&
		    drm_pagemap_page_to_dpagemap(page) == mig->dpagemap)
			mig->resident++;
	}
	migrate_vma_finalize(&m->migrate);
}

/* Give up pages that have broken since they were chosen. */
static void drm_pagemap_check_poison(struct drm_pagemap_devmem_move *m)
{
	unsigned long i;

	for (i = 0; i < m->s.ncopy; i++)
		if (PageHWPoison(m->s.pages[i]))
			drm_pagemap_poison_unmap(m->s.pages[i]);
	for (i = 0; i < m->peers.ncopy; i++)
		if (PageHWPoison(m->peers.to[i]))
			drm_pagemap_poison_unmap(m->peers.to[i]);
}

static int drm_pagemap_fill_devmem(struct drm_pagemap_devmem_move *m)
{
	int err;

	err = drm_pagemap_obtain_devmem(m);
	if (err)
		return err;

	err = drm_pagemap_choose_pages(m);
	if (err)
		return err;

	err = drm_pagemap_copy_to_devmem(m);
	if (err)
		return err;

	return drm_pagemap_peers_copy(&m->peers);
}

/* Pages of peers that broke while they were copied do not move. */
static noinline void drm_pagemap_peers_drop_broken(struct drm_pagemap_devmem_move *m)
{
	struct drm_pagemap_scratch *s = &m->s;
	struct drm_pagemap_peers *peers = &m->peers;
	struct page *from, *to;
	unsigned long i, k, n = 0;

	for (i = 0, k = 0; k < peers->ncopy; i++) {
		from = migrate_pfn_to_page(s->src[i]);
		to = migrate_pfn_to_page(s->dst[i]);
		if (!to || to != peers->to[k])
			continue;
		k++;
		if (!PageHWPoison(from)) {
			peers->to[n++] = to;
			continue;
		}
		drm_pagemap_page_forget(to);
		s->dst[i] = 0;
	}
	peers->ncopy = n;
}

/* Undo drm_pagemap_choose_pages(): the pages are free, and nobody's. */
static void drm_pagemap_choose_none(struct drm_pagemap_devmem_move *m)
{
	struct drm_pagemap_scratch *s = &m->s;
	unsigned long i;

	for (i = 0; i < s->ncopy; i++)
		drm_pagemap_page_forget(s->pages[i]);
	for (i = 0; i < m->peers.ncopy; i++)
		drm_pagemap_page_forget(m->peers.to[i]);
	memset(s->dst, 0, s->npages * sizeof(*s->dst));
}

static int drm_pagemap_migrate_collected(struct drm_pagemap_devmem_move *m)
{
	bool fill = m->wanted || m->mig->devmem;
	int err = 0;

	if (fill)
		err = drm_pagemap_fill_devmem(m);
	/* Before the sources are freed, and their device may go away. */
	drm_pagemap_peers_unmap(&m->peers);
	if (!err && READ_ONCE(drm_pagemap_has_poison))
		drm_pagemap_peers_drop_broken(m);

	if (err)
		drm_pagemap_choose_none(m);
	else if (fill)
		drm_pagemap_commit_to_devmem(m);
	if (!err && drm_pagemap_is_partial(m->mig) &&
	    m->mig->moved < m->s.npages)
		drm_pagemap_note_moved(&m->s);
	if (m->migrate.cpages || fill)
		migrate_vma_finalize(&m->migrate);
	if (!err && fill && READ_ONCE(drm_pagemap_has_poison))
		drm_pagemap_check_poison(m);

	return err;
}

/* A region is open, and stays so, while a migration holds its gate. */
static void drm_pagemap_assert_open(const struct drm_pagemap_region *region)
{
	lockdep_assert_held_read(&region->gate);
	WARN_ON_ONCE(region->unplugged);
}

static int drm_pagemap_migrate_checked(struct drm_pagemap_devmem_move *m)
{
	struct drm_pagemap_migration *mig = m->mig;
	int err;

	if (m->region)
		drm_pagemap_assert_open(m->region);

	err = drm_pagemap_scratch_alloc(&m->s, (mig->end - mig->start) >>
					       PAGE_SHIFT);
	if (err)
		return err;

	/*
	 * An allocation that is too small for the range may end inside of a large
	 * folio, of which no page would migrate then.  To coherent memory, none
	 * migrates as a whole.
	 */
	m->large = (!mig->devmem ||
		    mig->devmem->size >= mig->end - mig->start) &&
		   !drm_pagemap_is_coherent(m->region);
	m->with_peers = drm_pagemap_takes_from_peers(mig);
	err = drm_pagemap_collect_range(m);
	if (err)
		goto out_free;

	err = drm_pagemap_migrate_collected(m);
	if (err) {
		/* No page has come into use, so nobody else has a reference. */
		if (m->zdd)
			WARN_ON_ONCE(!drm_pagemap_zdd_disarm(m->zdd));
		goto out_free;
	}

	if (drm_pagemap_is_partial(mig)) {
		if (mig->moved < m->s.npages)
			drm_pagemap_count_resident(m);
	} else if (mig->moved < m->s.npages) {
		err = drm_pagemap_roll_back(m);
		goto out_free;
	}

	if (m->zdd)
		drm_pagemap_zdd_put(m->zdd);

out_free:
	kvfree(m->pfns);
	drm_pagemap_peers_free(&m->peers);
	drm_pagemap_scratch_free(&m->s);
	return err;
}

static int drm_pagemap_migrate_gated(struct drm_pagemap_devmem_move *m)
{
	struct drm_pagemap_region *region = m->region;
	int err = -ENODEV;

	if (!region)
		return drm_pagemap_migrate_checked(m);

	down_read(&region->gate);
	if (!region->unplugged)
		err = drm_pagemap_migrate_checked(m);
	up_read(&region->gate);

	return err;
}

/**
 * drm_pagemap_migrate() - Migrate a range to device memory
 * @mig: Arguments and result.
 *
 * Without %DRM_PAGEMAP_MIGRATE_PARTIAL every page of the range must be outside
 * of device memory and able to move; otherwise none moves.  With it, whatever
 * is missing and can move now does, as far as the allocation has room.
 *
 * Pages that have no contents yet, because they were never written, count as
 * pages that can move, and read as zero on the device.
 *
 * With %DRM_PAGEMAP_MIGRATE_PEERS, so do pages that are in the memory of another
 * device with the same page owner, if the driver has
 * &drm_pagemap_ops.copy_from_peer and its device can reach them.  They are
 * copied from device to device.
 *
 * The caller owns a reference to the allocation.  If 0 is returned it is taken
 * over, even if no page moved; after an error it is still the caller's.  This
 * includes an allocation that &drm_pagemap_migration.alloc made, which is found
 * in &drm_pagemap_migration.devmem then.
 *
 * 0 does not promise that the pages are on the device: they may have come back
 * by the time of return.  In the rare case that a migration without
 * %DRM_PAGEMAP_MIGRATE_PARTIAL can move only some pages in the end and memory
 * is lacking to take them back, 0 is returned too, and
 * &drm_pagemap_migration.moved is smaller than the range.
 *
 * Context: Process context, may sleep.  The caller holds the mmap lock, for
 * reading at least, no lock that an mmu notifier takes, and a reference to the users
 * of the address space: one that is being torn down would lose track of the pages.
 *
 * Return: 0, or
 *
 * * -EINVAL: the range is empty, inverted, not page aligned, larger than the
 *   allocation, goes beyond the VMA, or the VMA is special; unknown flags; the
 *   allocation is not of this memory; the driver gave pages that are in use, not
 *   device pages, of another owner, of another region, without a reference to
 *   their struct pages (see drm_pagemap_region_get_pages()) or, without a region,
 *   coherent or of several struct dev_pagemap.
 * * -ENOENT: no VMA at the start of the range.
 * * -EBUSY: not anonymous memory, or a page cannot move now: it is pinned, is
 *   being migrated already, is in device memory (but see above), or is part of a
 *   large folio that cannot be split, because one of its pages is pinned.
 * * -EOPNOTSUPP: the allocation lacks a callback.
 * * -ENOMEM: no memory.
 * * -EFAULT: a page cannot be mapped for DMA.
 * * -ENODEV: the region was unplugged, also if its device is unbound by now.
 * * -EHWPOISON: the driver gave a page that is broken.
 * * any error of the driver's callbacks.
 */
int drm_pagemap_migrate(struct drm_pagemap_migration *mig)
{
	struct drm_pagemap_devmem_move m = { .mig = mig };
	unsigned long npages;
	int err;

	mig->moved = 0;
	mig->from_peers = 0;
	mig->resident = 0;
	mig->left = 0;
	if (mig->devmem && !mig->dpagemap)
		mig->dpagemap = mig->devmem->dpagemap;
	m.region = drm_pagemap_region_find(mig->dpagemap);
	trace_drm_pagemap_migrate_begin(mig);

	err = drm_pagemap_check_args(&m);
	if (!err)
		err = drm_pagemap_migrate_gated(&m);

	if (err) {
		drm_pagemap_count(m.region, DRM_PAGEMAP_TO_DEVMEM_FAILS, 1);
	} else {
		npages = (mig->end - mig->start) >> PAGE_SHIFT;
		mig->left = npages - mig->moved - mig->resident;
		drm_pagemap_count(m.region, DRM_PAGEMAP_PAGES_TO_DEVMEM,
				  mig->moved);
		drm_pagemap_count(m.region, DRM_PAGEMAP_PAGES_FROM_PEERS,
				  mig->from_peers);
	}

	trace_drm_pagemap_migrate_end(mig, err);
	return err;
}
EXPORT_SYMBOL_GPL(drm_pagemap_migrate);

/**
 * drm_pagemap_migrate_to_devmem() - Migrate a whole range to an allocation
 * @devmem_allocation: The allocation, initialized by drm_pagemap_devmem_init().
 * @mm: The address space.
 * @start: First address, page aligned.
 * @end: End address, exclusive, page aligned.
 * @timeslice_ms: Milliseconds for which CPU faults leave the pages alone.
 * @pgmap_owner: Owner of the device-private pages.
 *
 * The migration is all or nothing, and takes pages from peers, too.  See
 * drm_pagemap_migrate() for the details, the owner of the allocation afterwards
 * and the errors.
 *
 * Context: As drm_pagemap_migrate().
 * Return: 0 or a negative errno, as drm_pagemap_migrate().
 */
int drm_pagemap_migrate_to_devmem(struct drm_pagemap_devmem *devmem_allocation,
				  struct mm_struct *mm,
				  unsigned long start, unsigned long end,
				  unsigned long timeslice_ms,
				  void *pgmap_owner)
{
	struct drm_pagemap_migration mig = {
		.dpagemap = devmem_allocation->dpagemap,
		.devmem = devmem_allocation,
		.mm = mm,
		.start = start,
		.end = end,
		.timeslice_ms = timeslice_ms,
		.pgmap_owner = pgmap_owner,
		.flags = DRM_PAGEMAP_MIGRATE_PEERS,
	};

	return drm_pagemap_migrate(&mig);
}
EXPORT_SYMBOL_GPL(drm_pagemap_migrate_to_devmem);

/*
 * The region's pages are going away, so none is in use any more.  Only the last
 * page may still be on its way to the driver, which unbind waits for, too.
 */
static int drm_pagemap_evict_unbound(struct drm_pagemap_devmem *devmem,
				     struct drm_pagemap_region *region)
{
	bool taken;

	/* A migration that was rolled back is over. */
	down_read(&region->gate);
	taken = READ_ONCE(devmem->taken);
	up_read(&region->gate);
	if (!taken)
		return -EBUSY;

	wait_for_completion(&devmem->detached);
	return 0;
}

/* Evict for as long as there is progress. */
static int drm_pagemap_evict_devmem(struct drm_pagemap_devmem *devmem,
				    unsigned long npages, unsigned long *moved)
{
	struct drm_pagemap_eviction e = {
		.npages = npages,
		.region = drm_pagemap_region_find(devmem->dpagemap),
	};
	struct drm_pagemap_retry retry;
	struct drm_pagemap_scratch s;
	unsigned long *pfns;
	int err = -ENOMEM;

	if (completion_done(&devmem->detached))
		return 0;
	if (!READ_ONCE(devmem->taken))
		return -EBUSY;

	/* Unbind, which removes the struct pages, waits for this. */
	if (e.region && !drm_pagemap_region_enter(e.region))
		return drm_pagemap_evict_unbound(devmem, e.region);

	pfns = drm_pagemap_pfns_alloc(devmem);
	if (!pfns)
		goto out_put;

	err = drm_pagemap_scratch_alloc(&s, min(npages,
						DRM_PAGEMAP_EVICT_BATCH));
	if (err)
		goto out_free;

	e.pfns = pfns;
	e.s = &s;
	drm_pagemap_retry_init(&retry);
	while (!completion_done(&devmem->detached)) {
		e.moved = 0;
		e.err = devmem->ops->populate_devmem_pfn(devmem, npages, pfns);
		if (!e.err)
			drm_pagemap_evict_pages(&e);

		err = READ_ONCE(devmem->taken) ?
		      drm_pagemap_retry_pass(&retry, e.moved, e.err) : -EBUSY;
		if (err)
			break;
		if (retry.delay > 1)
			wait_for_completion_timeout(&devmem->detached,
						    retry.delay);
	}
	*moved = retry.moved;
	drm_pagemap_scratch_free(&s);

out_free:
	kvfree(pfns);
out_put:
	if (e.region)
		drm_pagemap_region_exit(e.region);
	/* The last pages may have gone on their own, whatever failed here. */
	return completion_done(&devmem->detached) ? 0 : err;
}

/**
 * drm_pagemap_evict_to_ram() - Move all pages of an allocation to RAM
 * @devmem_allocation: The allocation.  The caller holds a reference of its own,
 *                     beside the one that the migration took over, because that
 *                     one may be released while this runs.
 *
 * Works by physical pages only: their present owner does not matter, nor whether
 * the process still exists.  Pages that are busy, and DMA
 * mappings that are lacking, are waited for, as long as something moves or a
 * second has not passed.  A timeslice is ended.
 *
 * RAM is allocated for the pages, from any node.  A large allocation is moved in
 * batches.
 *
 * Context: Process context, may sleep; not from memory reclaim.  No mmap lock is
 * needed.  The caller must not hold a lock that an mmu notifier, a
 * devmem_release() or a copy_to_ram() takes.  The device may be unbound
 * meanwhile.  A driver with a struct dev_pagemap of its own must keep the struct
 * pages until this returns.
 *
 * Return: 0 if no page of the allocation is in use any more, so that
 * &drm_pagemap_devmem.detached is completed, and
 * &drm_pagemap_devmem_ops.devmem_release has returned; otherwise
 *
 * * -EBUSY: other references or locks keep pages in place; or, at once, nothing
 *   was migrated to the allocation.
 * * -EOPNOTSUPP: the allocation lacks a callback.
 * * -ENOMEM: no memory to move the pages to.
 * * -EAGAIN: no page could be mapped for DMA.
 * * any error of the driver's callbacks.
 *
 * After an error some pages may have moved, and the rest is as before.
 */
int drm_pagemap_evict_to_ram(struct drm_pagemap_devmem *devmem_allocation)
{
	struct drm_pagemap_devmem *devmem = devmem_allocation;
	unsigned long npages = devmem->size >> PAGE_SHIFT;
	unsigned long moved = 0;
	int err;

	if (!devmem->ops->populate_devmem_pfn || !devmem->ops->copy_to_ram)
		return -EOPNOTSUPP;

	err = drm_pagemap_evict_devmem(devmem, npages, &moved);
	if (!err && devmem->ops->devmem_release)
		drm_pagemap_release_wait(devmem);

	trace_drm_pagemap_evict(devmem->dev, npages, moved, err);
	return err;
}
EXPORT_SYMBOL_GPL(drm_pagemap_evict_to_ram);

/*
 * Coherent memory.
 */

/* Account for the pages that moved to RAM, whichever regions they were in. */
static void drm_pagemap_count_evicted(const struct drm_pagemap_scratch *s)
{
	const struct drm_pagemap_zdd *zdd;
	unsigned long i;

	for (i = 0; i < s->npages; i++) {
		if (!s->dst[i] || !(s->src[i] & MIGRATE_PFN_MIGRATE))
			continue;
		zdd = migrate_pfn_to_page(s->src[i])->zone_device_data;
		drm_pagemap_count(zdd->region, DRM_PAGEMAP_PAGES_EVICTED, 1);
	}
}

/* Move the coherent pages of a part of a VMA, no larger than the arrays. */
static int drm_pagemap_coherent_part(struct vm_area_struct *vma,
				     unsigned long start, unsigned long end,
				     void *pgmap_owner,
				     struct drm_pagemap_scratch *s)
{
	struct migrate_vma migrate = {
		.vma = vma,
		.src = s->src,
		.dst = s->dst,
		.start = start,
		.end = end,
		.pgmap_owner = pgmap_owner,
		.flags = MIGRATE_VMA_SELECT_DEVICE_COHERENT,
	};
	struct drm_pagemap_ram_move r = {
		.s = s,
		.vma = vma,
		.start = start,
		.fault = DRM_PAGEMAP_NO_FAULT,
		.gfp = GFP_HIGHUSER_MOVABLE | __GFP_RETRY_MAYFAIL | __GFP_NOWARN,
	};
	int err;

	s->npages = (end - start) >> PAGE_SHIFT;
	err = migrate_vma_setup(&migrate);
	if (err)
		return err;

	if (migrate.cpages) {
		drm_pagemap_copy_to_ram(&r);
		migrate_vma_pages(&migrate);
		drm_pagemap_count_evicted(s);
	}
	migrate_vma_finalize(&migrate);

	return r.err;
}

static int drm_pagemap_coherent_vma(struct vm_area_struct *vma,
				    unsigned long start, unsigned long end,
				    void *pgmap_owner,
				    struct drm_pagemap_scratch *s)
{
	unsigned long size = s->npages << PAGE_SHIFT, addr, next;
	int err = 0;

	/* Device pages are not put anywhere else. */
	if (!vma_is_anonymous(vma))
		return 0;

	start = max(start, vma->vm_start);
	end = min(end, vma->vm_end);
	for (addr = start; addr < end && !err; addr = next) {
		next = min(addr + size, end);
		err = drm_pagemap_coherent_part(vma, addr, next, pgmap_owner, s);
		if (fatal_signal_pending(current))
			err = -EINTR;
		cond_resched();
	}

	return err;
}

/**
 * drm_pagemap_coherent_to_ram() - Bring coherent pages of a range back to RAM
 * @mm: The address space.
 * @start: First address, page aligned.
 * @end: End address, exclusive, page aligned.
 * @pgmap_owner: The owner of the device pages.
 *
 * Accesses of the CPU bring device-private pages back, but leave coherent ones
 * where they are.  This moves those of all devices with the same owner, and no
 * others.  Holes, and pages that cannot move now, stay as they are.
 *
 * Context: Process context, may sleep.  The caller holds the mmap lock, for
 * reading at least, and no lock that an mmu notifier or a copy_to_ram() takes.
 *
 * Return: 0, also if pages stayed, or
 *
 * * -ENOMEM: no memory.
 * * -EAGAIN: a page cannot be mapped for DMA now.
 * * -EINTR: the calling process is being killed.
 * * any error of the driver's callbacks.
 *
 * After an error some pages may have moved.
 */
int drm_pagemap_coherent_to_ram(struct mm_struct *mm,
				unsigned long start, unsigned long end,
				void *pgmap_owner)
{
	unsigned long npages = min((end - start) >> PAGE_SHIFT,
				   DRM_PAGEMAP_EVICT_BATCH);
	VMA_ITERATOR(vmi, mm, start);
	struct drm_pagemap_scratch s;
	struct vm_area_struct *vma;
	int err;

	mmap_assert_locked(mm);

	if (start >= end)
		return 0;
	err = drm_pagemap_scratch_alloc(&s, npages);
	if (err)
		return err;

	for_each_vma_range(vmi, vma, end) {
		s.npages = npages;
		err = drm_pagemap_coherent_vma(vma, start, end, pgmap_owner, &s);
		if (err)
			break;
	}
	drm_pagemap_scratch_free(&s);

	return err;
}
EXPORT_SYMBOL_GPL(drm_pagemap_coherent_to_ram);

/**
 * drm_pagemap_region_evict() - Try once to move every page of a region to RAM
 * @region: The region, closed to new migrations.
 * @moved: Incremented by the number of pages that moved.
 *
 * Context: Process context, may sleep.
 * Return: The number of pages found in use, including those that moved.
 */
unsigned long drm_pagemap_region_evict(struct drm_pagemap_region *region,
				       unsigned long *moved)
{
	struct drm_pagemap_eviction e = { .region = region };
	struct drm_pagemap_scratch many;
	struct drm_pagemap_single one;
	unsigned long i, used = 0;

	/* Never reset, so that it can be read without the gate. */
	WARN_ON_ONCE(!READ_ONCE(region->unplugged));

	e.s = drm_pagemap_single_init(&one);
	if (!drm_pagemap_scratch_alloc(&many, DRM_PAGEMAP_EVICT_BATCH))
		e.s = &many;

	for (i = 0; i < region->nparts; i++) {
		/* Nothing is in use where there are no struct pages. */
		if (!drm_pagemap_parts_tryget(region, i, i))
			continue;
		e.first = drm_pagemap_part_first(region, i);
		e.npages = drm_pagemap_part_npages(region, i);
		drm_pagemap_evict_pages(&e);
		drm_pagemap_parts_put(region, i, i);
		used += e.used;
		*moved += e.moved;
	}

	trace_drm_pagemap_evict(region->drm->dev, used, *moved, 0);
	if (e.s == &many)
		drm_pagemap_scratch_free(&many);
	return used;
}

/**
 * drm_pagemap_populate_mm() - Move a range of an address space to a provider's
 * memory
 * @dpagemap: The provider.
 * @start: First address, page aligned.
 * @end: End address, exclusive, page aligned.
 * @mm: The address space.  The caller holds mm_count, not necessarily mm_users.
 * @timeslice_ms: Milliseconds for which CPU faults leave the pages alone.
 *
 * Calls &drm_pagemap_ops.populate_mm with the reference and the lock it needs.
 *
 * Context: Process context, may sleep.  Takes the mmap lock of @mm for reading,
 * so the caller must not hold it.
 *
 * Return: 0, or
 *
 * * -EFAULT: the process is exiting.
 * * -EOPNOTSUPP: the provider cannot do it.
 * * any error of the callback, see drm_pagemap_migrate().
 */
int drm_pagemap_populate_mm(struct drm_pagemap *dpagemap,
			    unsigned long start, unsigned long end,
			    struct mm_struct *mm, unsigned long timeslice_ms)
{
	int err;

	if (!dpagemap->ops || !dpagemap->ops->populate_mm)
		return -EOPNOTSUPP;
	if (!mmget_not_zero(mm))
		return -EFAULT;

	mmap_read_lock(mm);
	err = dpagemap->ops->populate_mm(dpagemap, start, end, mm,
					 timeslice_ms);
	mmap_read_unlock(mm);
	mmput(mm);

	return err;
}
EXPORT_SYMBOL_GPL(drm_pagemap_populate_mm);

/**
 * drm_pagemap_map_page() - Get the address of a device page for a device
 * @page: A device page in use, which the caller keeps where it is, usually by an
 *        mmu notifier.
 * @dev: The device that is to access it: the page's own or a peer.
 * @order: Order of the mapping, see &drm_pagemap_ops.device_map.
 * @dir: Direction of the accesses.
 * @addr: The address, on success, of @order or less.  Undone by
 *        drm_pagemap_unmap_page().
 *
 * Context: Process context, and whatever the driver's &drm_pagemap_ops.device_map
 * allows.
 *
 * Return: 0, or
 *
 * * -EOPNOTSUPP: the page's memory cannot be mapped at all.
 * * -ENXIO: @dev cannot reach the page; migrate it instead.
 */
int drm_pagemap_map_page(struct page *page, struct device *dev,
			 unsigned int order, enum dma_data_direction dir,
			 struct drm_pagemap_device_addr *addr)
{
	struct drm_pagemap *dpagemap = drm_pagemap_page_to_dpagemap(page);

	if (!dpagemap->ops || !dpagemap->ops->device_map)
		return -EOPNOTSUPP;

	*addr = dpagemap->ops->device_map(dpagemap, dev, page, order, dir);

	return dma_mapping_error(dev, addr->addr) ? -ENXIO : 0;
}
EXPORT_SYMBOL_GPL(drm_pagemap_map_page);

/**
 * drm_pagemap_unmap_page() - Undo drm_pagemap_map_page()
 * @dpagemap: The memory that the page is, or was, part of.
 * @dev: The device.
 * @addr: The address.
 *
 * Context: As &drm_pagemap_ops.device_unmap, mmu notifiers included.
 */
void drm_pagemap_unmap_page(struct drm_pagemap *dpagemap, struct device *dev,
			    struct drm_pagemap_device_addr addr)
{
	if (dpagemap->ops && dpagemap->ops->device_unmap)
		dpagemap->ops->device_unmap(dpagemap, dev, addr);
}
EXPORT_SYMBOL_GPL(drm_pagemap_unmap_page);
