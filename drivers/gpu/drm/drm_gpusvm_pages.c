// SPDX-License-Identifier: GPL-2.0-only OR MIT

#include <linux/dma-mapping.h>
#include <linux/export.h>
#include <linux/hmm.h>
#include <linux/jiffies.h>
#include <linux/log2.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/userfaultfd_k.h>

#include <kunit/static_stub.h>
#include <kunit/visibility.h>

#include <drm/drm_device.h>
#include <drm/drm_gpusvm.h>
#include <drm/drm_pagemap.h>

#include "drm_gpusvm_internal.h"

/*
 * The pages of the ranges of GPU SVM: mapping them for the device, unmapping
 * them, and bringing them back from device memory.
 *
 * drm_gpusvm.c calls this file, and never the other way round.
 */

/**
 * drm_gpusvm_inject() - Let tests fail a step
 * @gpusvm: The struct drm_gpusvm.
 * @step: The step.
 *
 * Context: Any that @step runs in.
 * Return: Whether the step is to fail: no, unless a KUnit case says otherwise.
 */
bool drm_gpusvm_inject(struct drm_gpusvm *gpusvm, enum drm_gpusvm_step step)
{
	KUNIT_STATIC_STUB_REDIRECT(drm_gpusvm_inject, gpusvm, step);

	return false;
}
EXPORT_SYMBOL_IF_KUNIT(drm_gpusvm_inject);

/**
 * __drm_gpusvm_dma_map() - Map a run of pages of RAM for the device
 * @gpusvm: The struct drm_gpusvm.
 * @page: The first page.
 * @size: Size in bytes.
 * @dir: Direction of the accesses.
 *
 * Two address spaces that share memory, or two VMs of one, map the same page at
 * the same time.  The DMA API does not allow that for mappings that synchronize
 * caches by themselves, so this is done by hand.
 *
 * Context: As dma_map_page().
 * Return: As dma_map_page().
 */
dma_addr_t __drm_gpusvm_dma_map(struct drm_gpusvm *gpusvm, struct page *page,
				size_t size, enum dma_data_direction dir)
{
	struct device *dev = gpusvm->drm->dev;
	dma_addr_t addr;

	addr = dma_map_page_attrs(dev, page, 0, size, dir,
				  DMA_ATTR_SKIP_CPU_SYNC);
	if (!dma_mapping_error(dev, addr))
		dma_sync_single_for_device(dev, addr, size, dir);

	return addr;
}
EXPORT_SYMBOL_IF_KUNIT(__drm_gpusvm_dma_map);

/**
 * __drm_gpusvm_dma_unmap() - Undo __drm_gpusvm_dma_map()
 * @gpusvm: The struct drm_gpusvm.
 * @addr: Address that __drm_gpusvm_dma_map() returned.
 * @size: As mapped.
 * @dir: As mapped.
 *
 * Context: As dma_unmap_page().
 */
void __drm_gpusvm_dma_unmap(struct drm_gpusvm *gpusvm, dma_addr_t addr,
			    size_t size, enum dma_data_direction dir)
{
	struct device *dev = gpusvm->drm->dev;

	dma_sync_single_for_cpu(dev, addr, size, dir);
	dma_unmap_page_attrs(dev, addr, size, dir, DMA_ATTR_SKIP_CPU_SYNC);
}
EXPORT_SYMBOL_IF_KUNIT(__drm_gpusvm_dma_unmap);

/**
 * drm_gpusvm_dma_map() - __drm_gpusvm_dma_map(), observed by tests
 * @gpusvm: The struct drm_gpusvm.
 * @page: The first page.
 * @size: Size in bytes.
 * @dir: Direction of the accesses.
 *
 * Context: As __drm_gpusvm_dma_map().
 * Return: As __drm_gpusvm_dma_map().
 */
dma_addr_t drm_gpusvm_dma_map(struct drm_gpusvm *gpusvm, struct page *page,
			      size_t size, enum dma_data_direction dir)
{
	KUNIT_STATIC_STUB_REDIRECT(drm_gpusvm_dma_map, gpusvm, page, size, dir);

	return __drm_gpusvm_dma_map(gpusvm, page, size, dir);
}
EXPORT_SYMBOL_IF_KUNIT(drm_gpusvm_dma_map);

/**
 * drm_gpusvm_dma_unmap() - __drm_gpusvm_dma_unmap(), observed by tests
 * @gpusvm: The struct drm_gpusvm.
 * @addr: Address that drm_gpusvm_dma_map() returned.
 * @size: As mapped.
 * @dir: As mapped.
 *
 * Context: As __drm_gpusvm_dma_unmap().
 */
void drm_gpusvm_dma_unmap(struct drm_gpusvm *gpusvm, dma_addr_t addr,
			  size_t size, enum dma_data_direction dir)
{
	KUNIT_STATIC_STUB_REDIRECT(drm_gpusvm_dma_unmap, gpusvm, addr, size,
				   dir);

	__drm_gpusvm_dma_unmap(gpusvm, addr, size, dir);
}
EXPORT_SYMBOL_IF_KUNIT(drm_gpusvm_dma_unmap);

/*
 * Unmap the first @npages pages of a range.  Only the protocol tells how a page
 * was mapped: an address of 0 is as good as any other.
 */
static void drm_gpusvm_unmap_entries(struct drm_gpusvm_range *range,
				     unsigned long npages)
{
	struct drm_pagemap_device_addr *addr = range->dma_addr;
	struct drm_gpusvm *gpusvm = range->gpusvm;
	unsigned long i;

	drm_gpusvm_range_state_held(range);

	for (i = 0; i < npages; i += 1UL << addr->order, addr++) {
		if (addr->proto == DRM_INTERCONNECT_SYSTEM)
			drm_gpusvm_dma_unmap(gpusvm, addr->addr,
					     PAGE_SIZE << addr->order,
					     addr->dir);
		else if (IS_ENABLED(CONFIG_DEVICE_PRIVATE))
			drm_pagemap_unmap_page(range->dpagemap,
					       gpusvm->drm->dev, *addr);
	}
	range->dpagemap = NULL;
}

/**
 * drm_gpusvm_unmap_locked() - Unmap the pages of a range, if they are mapped
 * @range: The range.
 *
 * Context: With &drm_gpusvm.notifier_lock held for writing, or for reading and
 * the map_lock of the range.
 */
void drm_gpusvm_unmap_locked(struct drm_gpusvm_range *range)
{
	struct drm_gpusvm_range_flags flags = drm_gpusvm_range_flags(range);

	drm_gpusvm_range_state_held(range);

	if (!flags.has_dma_mapping)
		return;

	drm_gpusvm_unmap_entries(range, drm_gpusvm_npages(range));
	flags.has_devmem_pages = false;
	flags.has_dma_mapping = false;
	drm_gpusvm_range_set_flags(range, flags);
}

/*
 * A walk of the page tables for a range, repeated until its result holds.
 *
 * The sequence number of the notifier changes with all memory of the slot, so
 * the range's own epoch decides whether the result holds.  It is read before
 * mmu_interval_read_begin(), which waits for the invalidations counted by then,
 * and changes with every later one.
 */
struct drm_gpusvm_walk {
	struct drm_gpusvm *gpusvm;
	struct drm_gpusvm_range *range;
	const struct drm_gpusvm_ctx *ctx;	/* NULL for eviction */
	unsigned long *pfns;
	unsigned long npages;
	unsigned long epoch;
	unsigned long seq;
	unsigned long deadline;
	unsigned long to_ram;	/* fewest device pages left to bring to RAM */
	bool coherent;		/* some of them can be accessed by the CPU */
	enum dma_data_direction dir;
};

static void drm_gpusvm_walk_set_deadline(struct drm_gpusvm_walk *walk)
{
	walk->deadline = jiffies + msecs_to_jiffies(walk->gpusvm->timeout_ms);
}

static int drm_gpusvm_walk_init(struct drm_gpusvm_walk *walk,
				struct drm_gpusvm_range *range,
				const struct drm_gpusvm_ctx *ctx)
{
	*walk = (struct drm_gpusvm_walk) {
		.gpusvm = range->gpusvm,
		.range = range,
		.ctx = ctx,
		.npages = drm_gpusvm_npages(range),
		.dir = ctx && ctx->read_only ? DMA_TO_DEVICE :
					       DMA_BIDIRECTIONAL,
		.to_ram = ULONG_MAX,
	};
	drm_gpusvm_walk_set_deadline(walk);

	if (!drm_gpusvm_inject(walk->gpusvm, DRM_GPUSVM_STEP_PFNS))
		walk->pfns = kvmalloc_array(walk->npages, sizeof(*walk->pfns),
					    GFP_KERNEL_ACCOUNT);

	return walk->pfns ? 0 : -ENOMEM;
}

static void drm_gpusvm_walk_fini(struct drm_gpusvm_walk *walk)
{
	kvfree(walk->pfns);
}

/* Returns 0 to try again after @err, or the error to return. */
static int drm_gpusvm_walk_retry(const struct drm_gpusvm_walk *walk, int err)
{
	if (err != -EAGAIN)
		return err;
	if (fatal_signal_pending(current))
		return -EINTR;
	if (time_after_eq(jiffies, walk->deadline))
		return -EBUSY;
	cond_resched();

	return 0;
}

/*
 * The device gets exactly the memory that get_user_pages() would give, see
 * check_vma_flags() there.  Refused as there:
 *
 * - VM_IO and VM_PFNMAP: device registers, and memory without a struct page.
 * - Secret memory: not in the direct map, so that a driver's copy by the CPU
 *   would oops, and private to the process.  No VMA flag, but hmm_range_fault()
 *   reports it, see drm_gpusvm_check_look().
 * - Writes without VM_WRITE: they take FOLL_FORCE, which has no counterpart.
 * - Writes with VM_SHADOW_STACK: return addresses, which the process cannot
 *   write either.
 * - Accesses without VM_READ: HMM has no write-only entries.
 *
 * The other rules there do not apply.  Protection keys restrict the
 * instructions of a thread, not remote accesses like these.  Files with dirty
 * tracking, and DAX, are refused for long-term pins; mappings made here are
 * revoked whenever the file system write-protects the page.  FOLL_ANON,
 * FOLL_FORCE and FOLL_SPLIT_PMD have no counterpart.
 *
 * Holds under the mmap lock, and after that until the range is invalidated:
 * another VMA can only appear where this one goes.
 */
static int drm_gpusvm_check_vmas(struct mm_struct *mm, unsigned long addr,
				 unsigned long end, bool write)
{
	VMA_ITERATOR(vmi, mm, addr);
	struct vm_area_struct *vma;

	mmap_assert_locked(mm);

	for_each_vma_range(vmi, vma, end) {
		if (vma->vm_start > addr)
			return -EFAULT;
		if (vma->vm_flags & (VM_IO | VM_PFNMAP))
			return -EIO;
		if (write && !drm_gpusvm_vma_writable(vma))
			return -EPERM;
		if (!(vma->vm_flags & VM_READ))
			return -EFAULT;
		addr = vma->vm_end;
	}

	return addr < end ? -EFAULT : 0;
}

/*
 * The verdict on a walk that faulted nothing.  With the VMAs checked, an error
 * stands for memory that no device may have: it is secret, or its page table
 * entry is special.
 */
static int drm_gpusvm_check_look(const struct drm_gpusvm_walk *walk)
{
	unsigned long i;

	for (i = 0; i < walk->npages; i++)
		if (walk->pfns[i] & HMM_PFN_ERROR)
			return -EIO;

	return 0;
}

/* Whether a page that was looked at has to be faulted. */
static bool drm_gpusvm_needs_fault(const struct drm_gpusvm_walk *walk,
				   unsigned long hmm_pfn)
{
	unsigned long want = HMM_PFN_VALID;

	/* For eviction, drm_gpusvm_classify() has reduced it to that. */
	if (!walk->ctx)
		return hmm_pfn;
	if (!walk->ctx->read_only)
		want |= HMM_PFN_WRITE;

	return (hmm_pfn & want) != want;
}

/* Whether faulting a page may involve a userfaultfd. */
static bool drm_gpusvm_page_asks_user(struct vm_area_struct *vma,
				      unsigned long hmm_pfn)
{
	if (userfaultfd_wp(vma) && !userfaultfd_wp_async(vma))
		return true;

	/* A device page that drm_gpusvm_unmix() wants back is not missing. */
	return !(hmm_pfn & (HMM_PFN_VALID | HMM_PFN_ERROR)) &&
	       (userfaultfd_missing(vma) || userfaultfd_minor(vma));
}

/*
 * drm_gpusvm_page_asks_user() for a run of pages.  HMM faults without
 * FAULT_FLAG_ALLOW_RETRY, so that such a fault cannot wait for user space: it
 * would fail, with a warning if DEBUG_VM is set.
 */
static bool drm_gpusvm_run_asks_user(const struct hmm_range *hmm)
{
	VMA_ITERATOR(vmi, hmm->notifier->mm, hmm->start);
	struct vm_area_struct *vma;
	unsigned long addr, i;

	mmap_assert_locked(hmm->notifier->mm);

	for_each_vma_range(vmi, vma, hmm->end) {
		if (!userfaultfd_armed(vma))
			continue;
		for (addr = max(vma->vm_start, hmm->start);
		     addr < min(vma->vm_end, hmm->end); addr += PAGE_SIZE) {
			i = (addr - hmm->start) >> PAGE_SHIFT;
			if (drm_gpusvm_page_asks_user(vma, hmm->hmm_pfns[i]))
				return true;
		}
	}

	return false;
}

/*
 * Fault the pages that need it, run by run.  In one go, hmm_range_fault() would
 * also fault everything after the first of them: bring back device pages that
 * can stay, populate pages that were not requested, and fail at holes.
 */
static int drm_gpusvm_fault_runs(const struct drm_gpusvm_walk *walk,
				 struct hmm_range *hmm)
{
	unsigned long start = drm_gpusvm_range_start(walk->range);
	unsigned long first, end;
	int err;

	mmap_assert_locked(walk->gpusvm->mm);

	for (first = 0; first < walk->npages; first = end) {
		end = first + 1;
		if (!drm_gpusvm_needs_fault(walk, walk->pfns[first]))
			continue;
		while (end < walk->npages &&
		       drm_gpusvm_needs_fault(walk, walk->pfns[end]))
			end++;

		/* The slot may change elsewhere; the epoch covers the range. */
		hmm->notifier_seq = mmu_interval_read_begin(hmm->notifier);
		hmm->start = start + (first << PAGE_SHIFT);
		hmm->end = start + (end << PAGE_SHIFT);
		hmm->hmm_pfns = walk->pfns + first;
		if (walk->ctx && drm_gpusvm_run_asks_user(hmm))
			return -EFAULT;
		err = hmm_range_fault(hmm);
		if (err)
			return err;
	}

	return 0;
}

/* Whether a page that was looked up is in device memory, and not merely RAM to us */
static bool drm_gpusvm_is_devmem(const struct drm_gpusvm_walk *walk,
				 const struct page *page)
{
	return drm_pagemap_page_is_devmem(page,
					  walk->gpusvm->device_private_page_owner);
}

/* Device pages that are to come to RAM: those that no fault brings back */
static int drm_gpusvm_coherent_to_ram(const struct drm_gpusvm_walk *walk)
{
	int err;

	if (!IS_ENABLED(CONFIG_DEVICE_PRIVATE) || !walk->coherent)
		return 0;

	err = drm_pagemap_coherent_to_ram(walk->gpusvm->mm,
					  drm_gpusvm_range_start(walk->range),
					  drm_gpusvm_range_end(walk->range),
					  walk->gpusvm->device_private_page_owner);
	switch (err) {
	case 0:
	case -EAGAIN:
	case -EBUSY:
	case -EINTR:
	case -ENOMEM:
		return err;
	default:
		/* The driver could not copy: as after a CPU fault. */
		return -EFAULT;
	}
}

/*
 * A hole among device pages would be filled with RAM.  If mixing is not
 * allowed, the device pages are marked unusable, so that all are faulted and
 * come to RAM, perhaps one allocation at a time, as each of them invalidates
 * the range.  No entry had that mark before, see drm_gpusvm_check_look(), and
 * HMM ignores the old contents of entries that it fills.
 * Returns 1 if pages were marked, 0 if not, or -EAGAIN.
 */
static int drm_gpusvm_unmix(struct drm_gpusvm_walk *walk)
{
	unsigned long i, holes = 0, devmem = 0;
	struct page *page;
	int err = -EAGAIN;

	walk->coherent = false;
	if (walk->ctx->allow_mixed)
		return 0;

	for (i = 0; i < walk->npages; i++)
		holes += !(walk->pfns[i] & HMM_PFN_VALID);
	if (!holes && walk->to_ram == ULONG_MAX)
		return 0;

	/* A device page may go when unmapped, and its struct page with it. */
	drm_gpusvm_notifier_lock(walk->gpusvm);
	if (walk->range->epoch != walk->epoch)
		goto out_unlock;

	for (i = 0; i < walk->npages; i++) {
		if (!(walk->pfns[i] & HMM_PFN_VALID))
			continue;
		page = hmm_pfn_to_page(walk->pfns[i]);
		if (!drm_gpusvm_is_devmem(walk, page))
			continue;
		walk->coherent |= is_device_coherent_page(page);
		walk->pfns[i] = HMM_PFN_ERROR;
		devmem++;
	}
	err = !!devmem;
	/* Progress earns more time. */
	if (devmem && devmem < walk->to_ram) {
		walk->to_ram = devmem;
		drm_gpusvm_walk_set_deadline(walk);
	}

out_unlock:
	drm_gpusvm_notifier_unlock(walk->gpusvm);
	return err;
}

/*
 * Make the process's pages present, and look them up.  Returns -EAGAIN if they
 * changed meanwhile, as they do when a page comes back from the device or is
 * copied on write.
 */
static int drm_gpusvm_fault_pages(struct drm_gpusvm_walk *walk)
{
	struct drm_gpusvm_range *range = walk->range;
	struct drm_gpusvm *gpusvm = walk->gpusvm;
	bool write = !walk->ctx->read_only;
	struct mm_struct *mm = gpusvm->mm;
	struct hmm_range hmm = {
		.notifier = &range->notifier->notifier,
		.start = drm_gpusvm_range_start(range),
		.end = drm_gpusvm_range_end(range),
		.hmm_pfns = walk->pfns,
		.dev_private_owner = gpusvm->device_private_page_owner,
	};
	int err;

	if (mmap_read_lock_killable(mm))
		return -EINTR;
	walk->seq = mmu_interval_read_begin(hmm.notifier);
	hmm.notifier_seq = walk->seq;
	err = drm_gpusvm_check_vmas(mm, hmm.start, hmm.end, write);
	if (!err)
		err = hmm_range_fault(&hmm) ?: drm_gpusvm_check_look(walk);
	if (!err)
		err = drm_gpusvm_unmix(walk);
	if (err >= 0) {
		hmm.default_flags = HMM_PFN_REQ_FAULT |
				    (write ? HMM_PFN_REQ_WRITE : 0);
		/* Without an owner, HMM brings device pages to RAM. */
		if (err)
			hmm.dev_private_owner = NULL;
		err = drm_gpusvm_coherent_to_ram(walk) ?:
		      drm_gpusvm_fault_runs(walk, &hmm);
	}
	mmap_read_unlock(mm);
	if (drm_gpusvm_inject(gpusvm, DRM_GPUSVM_STEP_LOOK))
		return -EAGAIN;

	return err == -EBUSY ? -EAGAIN : err;
}

/* Whether a page may be mapped.  @dpagemap is that of the pages before it. */
static int drm_gpusvm_check_page(const struct drm_gpusvm_walk *walk,
				 unsigned long hmm_pfn,
				 struct drm_pagemap **dpagemap)
{
	struct drm_pagemap *mine;
	struct page *page;
	bool devmem;

	lockdep_assert_held(&walk->gpusvm->notifier_lock);

	if (!(hmm_pfn & HMM_PFN_VALID))
		return -EAGAIN;

	page = hmm_pfn_to_page(hmm_pfn);
	devmem = drm_gpusvm_is_devmem(walk, page);
	/*
	 * The device must not write a page that the process must not: it may be
	 * shared since fork().
	 */
	if (!walk->ctx->read_only && !(hmm_pfn & HMM_PFN_WRITE))
		return devmem ? -EOPNOTSUPP : -EAGAIN;
	if (is_pci_p2pdma_page(page))
		return -EIO;
	if (!devmem)
		return 0;

	mine = drm_pagemap_page_to_dpagemap(page);
	if (*dpagemap && *dpagemap != mine)
		return -EOPNOTSUPP;
	*dpagemap = mine;

	return 0;
}

/* Nothing changed, and the notifier lock keeps the pages where they are. */
static int drm_gpusvm_check_pages(const struct drm_gpusvm_walk *walk,
				  struct drm_pagemap **dpagemap)
{
	unsigned long i, devmem = 0;
	struct page *page;
	int err;

	*dpagemap = NULL;
	for (i = 0; i < walk->npages; i++) {
		err = drm_gpusvm_check_page(walk, walk->pfns[i], dpagemap);
		if (err)
			return err;
		page = hmm_pfn_to_page(walk->pfns[i]);
		devmem += drm_gpusvm_is_devmem(walk, page);
	}

	if (devmem == walk->npages)
		return 0;
	if (devmem && !walk->ctx->allow_mixed)
		return -EOPNOTSUPP;

	return walk->ctx->devmem_only ? -EFAULT : 0;
}

/* Whether one mapping can cover both pages, if they are neighbours. */
static bool drm_gpusvm_same_memory(struct page *a, struct page *b)
{
	bool devmem = is_zone_device_page(a);

	return is_zone_device_page(b) == devmem &&
	       (!devmem || page_pgmap(a) == page_pgmap(b));
}

/*
 * The order of the largest mapping that starts with page @i: aligned in the
 * process and physically, and within the range, the memory that the page is
 * part of and, in RAM, the device's limit for a mapping.
 */
static unsigned int drm_gpusvm_map_order(const struct drm_gpusvm_walk *walk,
					 unsigned long i)
{
	struct page *page = hmm_pfn_to_page(walk->pfns[i]);
	unsigned long start = drm_gpusvm_range_start(walk->range);
	unsigned long first = page_to_pfn(page), npages, n;
	struct device *dev = walk->gpusvm->drm->dev;

	/* The lowest bit set in either number is their common alignment. */
	npages = 1UL << __ffs(first | ((start >> PAGE_SHIFT) + i) | LONG_MIN);
	npages = min(npages, walk->npages - i);
	if (!drm_gpusvm_is_devmem(walk, page))
		npages = min_t(unsigned long, npages,
			       max(dma_max_mapping_size(dev) >> PAGE_SHIFT,
				   1UL));

	for (n = 1; n < npages; n++)
		if ((walk->pfns[i + n] & ~HMM_PFN_FLAGS) != first + n ||
		    !drm_gpusvm_same_memory(page, pfn_to_page(first + n)))
			break;

	return ilog2(n);
}

static int drm_gpusvm_map_devmem(const struct drm_gpusvm_walk *walk,
				 struct page *page, unsigned int order,
				 struct drm_pagemap_device_addr *addr)
{
	struct device *dev = walk->gpusvm->drm->dev;

	if (drm_pagemap_map_page(page, dev, order, walk->dir, addr))
		return -EOPNOTSUPP;

	/* The driver may have mapped less, but the rest is not its business. */
	if (addr->order > order)
		addr->order = order;

	return 0;
}

/*
 * The device's writes set no dirty bit, and a writable page table entry need
 * not be dirty: the page was only read so far, or MADV_FREE made it clean.
 * Reclaim would drop such a page.  For file systems that track writes, the entry
 * is writable only if the folio is dirty.
 */
static void drm_gpusvm_mark_dirty(struct page *page, unsigned long npages)
{
	unsigned long pfn = page_to_pfn(page), end = pfn + npages;
	struct folio *folio;

	while (pfn < end) {
		folio = page_folio(pfn_to_page(pfn));
		if (!folio_test_dirty(folio))
			folio_mark_dirty(folio);
		pfn = folio_pfn(folio) + folio_nr_pages(folio);
	}
}

static int drm_gpusvm_map_ram(const struct drm_gpusvm_walk *walk,
			      struct page *page, unsigned int order,
			      struct drm_pagemap_device_addr *addr)
{
	dma_addr_t dma;

	dma = drm_gpusvm_dma_map(walk->gpusvm, page, PAGE_SIZE << order,
				 walk->dir);
	if (dma_mapping_error(walk->gpusvm->drm->dev, dma))
		return -EFAULT;

	if (!walk->ctx->read_only)
		drm_gpusvm_mark_dirty(page, 1UL << order);
	*addr = drm_pagemap_device_addr_encode(dma, DRM_INTERCONNECT_SYSTEM,
					       order, walk->dir);

	return 0;
}

/* Map page @i and those after it; the order of @addr returns how many. */
static int drm_gpusvm_map_entry(const struct drm_gpusvm_walk *walk,
				unsigned long i,
				struct drm_pagemap_device_addr *addr)
{
	struct page *page = hmm_pfn_to_page(walk->pfns[i]);
	unsigned int order = drm_gpusvm_map_order(walk, i);

	drm_gpusvm_range_state_held(walk->range);

	return drm_gpusvm_is_devmem(walk, page) ?
	       drm_gpusvm_map_devmem(walk, page, order, addr) :
	       drm_gpusvm_map_ram(walk, page, order, addr);
}

/* Whether nothing of a mapped range is in RAM. */
static bool drm_gpusvm_mapped_devmem_only(const struct drm_gpusvm_walk *walk)
{
	struct drm_pagemap_device_addr *addr = walk->range->dma_addr;
	unsigned long i;

	for (i = 0; i < walk->npages; i += 1UL << addr->order, addr++)
		if (addr->proto == DRM_INTERCONNECT_SYSTEM)
			return false;

	return true;
}

/* Whether the pages of a mapped range are where they are wanted. */
static bool drm_gpusvm_mapped_where_wanted(const struct drm_gpusvm_walk *walk)
{
	if (!drm_gpusvm_range_flags(walk->range).has_devmem_pages)
		return !walk->ctx->devmem_only;
	if (walk->ctx->allow_mixed && !walk->ctx->devmem_only)
		return true;

	return drm_gpusvm_mapped_devmem_only(walk);
}

/* Whether the range is mapped already, as wanted or better. */
static bool drm_gpusvm_mapped_as_wanted(const struct drm_gpusvm_walk *walk)
{
	lockdep_assert_held(&walk->range->map_lock);

	return drm_gpusvm_range_pages_valid(walk->gpusvm, walk->range) &&
	       (walk->ctx->read_only || !walk->range->read_only) &&
	       drm_gpusvm_mapped_where_wanted(walk);
}

/*
 * Map the pages that were looked up.  Returns -EAGAIN if they are no longer
 * those of the process, or are mapped in a way that has to be undone first.
 */
static int drm_gpusvm_map_locked(struct drm_gpusvm_walk *walk)
{
	struct drm_gpusvm_range *range = walk->range;
	struct drm_gpusvm_range_flags flags = drm_gpusvm_range_flags(range);
	struct drm_pagemap_device_addr *addr = range->dma_addr;
	struct drm_pagemap *dpagemap;
	unsigned long i;
	int err;

	lockdep_assert_held(&walk->gpusvm->notifier_lock);
	lockdep_assert_held(&range->map_lock);

	if (flags.unmapped)
		return -EFAULT;
	if (range->epoch != walk->epoch ||
	    drm_gpusvm_range_pages_valid(walk->gpusvm, range))
		return -EAGAIN;

	err = drm_gpusvm_check_pages(walk, &dpagemap);
	if (err)
		return err;

	/* The driver may have left an invalidated range mapped. */
	drm_gpusvm_unmap_locked(range);
	range->dpagemap = dpagemap;
	for (i = 0; i < walk->npages; i += 1UL << addr->order, addr++) {
		err = drm_gpusvm_map_entry(walk, i, addr);
		if (err)
			goto err_unmap;
	}

	range->notifier_seq = walk->seq;
	range->read_only = walk->ctx->read_only;
	/* Pairs with drm_gpusvm_range_pages_valid(). */
	smp_store_release(&range->stale, false);
	flags.has_devmem_pages = !!dpagemap;
	flags.has_dma_mapping = true;
	drm_gpusvm_range_set_flags(range, flags);

	return 0;

err_unmap:
	drm_gpusvm_unmap_entries(range, i);
	return err;
}

static int drm_gpusvm_map_pages(struct drm_gpusvm_walk *walk)
{
	struct drm_gpusvm_range *range = walk->range;
	int err;

	drm_gpusvm_notifier_lock(walk->gpusvm);
	mutex_lock(&range->map_lock);
	err = drm_gpusvm_map_locked(walk);
	mutex_unlock(&range->map_lock);
	drm_gpusvm_notifier_unlock(walk->gpusvm);

	return err;
}

/*
 * The range is mapped in another way than wanted now: for reading, in RAM or
 * mixed.  The GPU has to stop using the old mapping before it is replaced.
 */
static void drm_gpusvm_zap(struct drm_gpusvm *gpusvm,
			   struct drm_gpusvm_range *range)
{
	struct mmu_notifier_range mmu_range;

	mmu_notifier_range_init(&mmu_range, MMU_NOTIFY_CLEAR, 0, gpusvm->mm,
				drm_gpusvm_range_start(range),
				drm_gpusvm_range_end(range));
	mmu_range.flags |= MMU_NOTIFIER_RANGE_BLOCKABLE;

	down_write(&gpusvm->notifier_lock);
	gpusvm->ops->invalidate(gpusvm, range->notifier, &mmu_range);
	drm_gpusvm_range_set_stale(range);
	up_write(&gpusvm->notifier_lock);
}

/* Returns 1 if the range is mapped as wanted, 0 if not, or a negative errno. */
static int drm_gpusvm_get_pages_begin(struct drm_gpusvm_walk *walk)
{
	struct drm_gpusvm_range *range = walk->range;
	struct drm_gpusvm *gpusvm = walk->gpusvm;
	bool zap = false;
	int ret = 0;

	drm_gpusvm_notifier_lock(gpusvm);
	mutex_lock(&range->map_lock);
	if (drm_gpusvm_range_flags(range).unmapped)
		ret = -EFAULT;
	else if (drm_gpusvm_mapped_as_wanted(walk))
		ret = 1;
	else
		zap = drm_gpusvm_range_pages_valid(gpusvm, range);
	walk->epoch = range->epoch + zap;
	mutex_unlock(&range->map_lock);
	drm_gpusvm_notifier_unlock(gpusvm);

	if (zap)
		drm_gpusvm_zap(gpusvm, range);

	return ret;
}

/* Reclaim needs the notifier lock, so this cannot wait until it is held. */
static int drm_gpusvm_alloc_addrs(struct drm_gpusvm_walk *walk)
{
	struct drm_gpusvm_range *range = walk->range;
	struct drm_pagemap_device_addr *addrs = NULL;
	int err = 0;

	if (READ_ONCE(range->dma_addr))
		return 0;

	if (!drm_gpusvm_inject(walk->gpusvm, DRM_GPUSVM_STEP_ADDRS))
		addrs = kvcalloc(walk->npages, sizeof(*addrs),
				 GFP_KERNEL_ACCOUNT);
	if (!addrs)
		return -ENOMEM;

	drm_gpusvm_notifier_lock(walk->gpusvm);
	mutex_lock(&range->map_lock);
	/* Nobody would free the array of a range that was removed. */
	if (drm_gpusvm_range_flags(range).unmapped)
		err = -EFAULT;
	else if (!range->dma_addr)
		swap(range->dma_addr, addrs);
	mutex_unlock(&range->map_lock);
	drm_gpusvm_notifier_unlock(walk->gpusvm);
	kvfree(addrs);

	return err;
}

/**
 * drm_gpusvm_range_pages_valid() - Whether the addresses of a range can be used
 * @gpusvm: The struct drm_gpusvm.
 * @range: A range of it.
 *
 * Checked right before the driver builds the GPU's translations from
 * &drm_gpusvm_range.dma_addr, in the same critical section.
 *
 * If several callers map the same range at once, under a driver's lock that is
 * held shared, the mapping may be the one that another requested: the device
 * may write where @dir of the address is %DMA_BIDIRECTIONAL, and only there.
 *
 * Context: With &drm_gpusvm.notifier_lock held.
 * Return: True if the pages are mapped, and are those of the process.  In
 * &drm_gpusvm_ops.invalidate, whether they were until now.
 */
bool drm_gpusvm_range_pages_valid(struct drm_gpusvm *gpusvm,
				  struct drm_gpusvm_range *range)
{
	struct drm_gpusvm_range_flags flags;

	lockdep_assert_held(&gpusvm->notifier_lock);

	/*
	 * Another caller may be about to replace a stale mapping.  Pairs with
	 * drm_gpusvm_map_locked(): once the range is seen not to be stale, the
	 * flags of the old mapping are not seen any more.
	 */
	if (smp_load_acquire(&range->stale))
		return false;

	flags = drm_gpusvm_range_flags(range);

	return flags.has_dma_mapping && !flags.unmapped;
}
EXPORT_SYMBOL_GPL(drm_gpusvm_range_pages_valid);

/**
 * drm_gpusvm_range_get_pages() - Map the pages of a range for the device
 * @gpusvm: The struct drm_gpusvm.
 * @range: A range of it.
 * @ctx: Options: @read_only, @devmem_only and @allow_mixed.
 *
 * Makes the pages present in the process, as a CPU access would, and maps them
 * into &drm_gpusvm_range.dma_addr: %DMA_TO_DEVICE with @ctx->read_only, else
 * %DMA_BIDIRECTIONAL.  An entry never covers more than the range.  A page that
 * the process may not write is not mapped for writing: the copy on write is
 * made first, in RAM.
 *
 * Device pages must be of one &struct drm_pagemap, and pages of RAM are not
 * mixed with them unless @ctx->allow_mixed is set.  Without it,
 * &drm_gpusvm_range_flags.has_devmem_pages therefore says that all of the range
 * is in device memory, as a driver may have to ensure before the device uses
 * atomics; and if a page among device pages is missing, which can only be
 * filled in RAM, the device pages come back to RAM.
 *
 * Nothing is done if the range is mapped as requested.  If it is mapped for
 * reading but requested for writing, in RAM but requested with
 * @ctx->devmem_only, or mixed but requested without @ctx->allow_mixed,
 * &drm_gpusvm_ops.invalidate is called for it first.
 *
 * The device gets the memory that get_user_pages() would give, except memory
 * that cannot be read.  If a part of the range is refused, all of it is.
 *
 * Where the DMA API bounces, a device that writes RAM writes a copy, which on
 * unmap overwrites the page and whatever the process wrote to it meanwhile.  A
 * driver for such devices sets @ctx->devmem_only to write.
 *
 * The process may change its memory as soon as this returns, see
 * drm_gpusvm_range_pages_valid().
 *
 * Context: Process context, may sleep.  With the driver's lock held, in any
 * mode, and neither the mmap lock nor &drm_gpusvm.notifier_lock.
 *
 * Return: 0, or one of these, with nothing mapped:
 *
 * * -EOPNOTSUPP: the device pages cannot be mapped for this device, together
 *   with each other or with pages of RAM, or for writing: call
 *   drm_gpusvm_range_evict() and try again.
 * * -EFAULT: the process unmapped the memory or is exiting, the memory cannot
 *   be read, or a page could not be faulted in or mapped; or a page that is
 *   missing, or in swap, may have to come from userfaultfd.  With
 *   @ctx->devmem_only: a page is in RAM (if @ctx->allow_mixed is not set: all
 *   pages are).
 * * -EPERM: the memory is not writable, or a shadow stack, and @ctx->read_only
 *   is not set.
 * * -EIO: no device may have the memory: device registers, memory without a
 *   struct page, or secret memory.
 * * -EBUSY: the process kept changing its memory for a second, or changed it
 *   during a wait that took that long; see the races section.  The second
 *   starts anew as device pages come to RAM.
 * * -EINTR: the calling process is being killed.
 * * -ENOMEM: out of memory, for the helper or for a page of the process, or the
 *   limit of the memory cgroup was reached.
 */
int drm_gpusvm_range_get_pages(struct drm_gpusvm *gpusvm,
			       struct drm_gpusvm_range *range,
			       const struct drm_gpusvm_ctx *ctx)
{
	struct drm_gpusvm_walk walk;
	int err;

	drm_gpusvm_driver_lock_held(gpusvm, -1);

	if (!mmget_not_zero(gpusvm->mm))
		return -EFAULT;

	err = drm_gpusvm_walk_init(&walk, range, ctx);
	if (!err)
		err = drm_gpusvm_alloc_addrs(&walk);

	while (!err) {
		err = drm_gpusvm_get_pages_begin(&walk);
		if (!err)
			err = drm_gpusvm_fault_pages(&walk);
		if (!err)
			err = drm_gpusvm_map_pages(&walk);
		if (err >= 0)
			break;
		err = drm_gpusvm_walk_retry(&walk, err);
	}

	drm_gpusvm_walk_fini(&walk);
	mmput(gpusvm->mm);

	return min(err, 0);
}
EXPORT_SYMBOL_GPL(drm_gpusvm_range_get_pages);

/**
 * drm_gpusvm_range_unmap_pages() - Unmap the pages of a range
 * @gpusvm: The struct drm_gpusvm.
 * @range: A range of it.
 * @ctx: @in_notifier says whether &drm_gpusvm.notifier_lock is held.
 *
 * Undoes drm_gpusvm_range_get_pages(); does nothing if the range is not mapped.
 * The GPU must not use the addresses any more.
 *
 * Context: From &drm_gpusvm_ops.invalidate with @ctx->in_notifier.  Else
 * process context, may sleep, without &drm_gpusvm.notifier_lock.
 */
void drm_gpusvm_range_unmap_pages(struct drm_gpusvm *gpusvm,
				  struct drm_gpusvm_range *range,
				  const struct drm_gpusvm_ctx *ctx)
{
	if (ctx->in_notifier) {
		lockdep_assert_held_write(&gpusvm->notifier_lock);
		drm_gpusvm_unmap_locked(range);
		return;
	}

	drm_gpusvm_notifier_lock(gpusvm);
	mutex_lock(&range->map_lock);
	drm_gpusvm_unmap_locked(range);
	mutex_unlock(&range->map_lock);
	drm_gpusvm_notifier_unlock(gpusvm);
}
EXPORT_SYMBOL_GPL(drm_gpusvm_range_unmap_pages);

/*
 * Eviction.
 */

/*
 * Reduce the pfns of a walk to whether they are device pages.  Such a page may
 * be freed at any time, and its struct page with it when the device goes,
 * unless the epoch shows that it is still mapped.  Returns their number, or
 * -EAGAIN.
 */
static long drm_gpusvm_classify(struct drm_gpusvm_walk *walk)
{
	struct drm_gpusvm_range *range = walk->range;
	struct page *page;
	unsigned long i;
	long n = 0;

	walk->coherent = false;
	drm_gpusvm_notifier_lock(walk->gpusvm);
	if (range->epoch != walk->epoch) {
		n = -EAGAIN;
		goto out_unlock;
	}

	for (i = 0; i < walk->npages; i++) {
		page = walk->pfns[i] & HMM_PFN_VALID ?
		       hmm_pfn_to_page(walk->pfns[i]) : NULL;
		walk->pfns[i] = page && drm_gpusvm_is_devmem(walk, page);
		n += walk->pfns[i];
		walk->coherent |= page && is_device_coherent_page(page);
	}

out_unlock:
	drm_gpusvm_notifier_unlock(walk->gpusvm);
	return n;
}

/*
 * One pass of eviction.  Returns the number of device pages that it found, or a
 * negative errno.
 */
static long drm_gpusvm_evict_pass(struct drm_gpusvm_walk *walk)
{
	struct drm_gpusvm_range *range = walk->range;
	struct mm_struct *mm = walk->gpusvm->mm;
	struct hmm_range hmm = {
		.notifier = &range->notifier->notifier,
		.start = drm_gpusvm_range_start(range),
		.end = drm_gpusvm_range_end(range),
		.hmm_pfns = walk->pfns,
		.dev_private_owner = walk->gpusvm->device_private_page_owner,
	};
	long n;
	int err;

	drm_gpusvm_notifier_lock(walk->gpusvm);
	walk->epoch = range->epoch;
	drm_gpusvm_notifier_unlock(walk->gpusvm);

	if (mmap_read_lock_killable(mm))
		return -EINTR;
	hmm.notifier_seq = mmu_interval_read_begin(hmm.notifier);

	/* Does not fault, so that holes remain holes. */
	err = hmm_range_fault(&hmm);
	n = err ?: drm_gpusvm_classify(walk);
	if (n > 0) {
		hmm.default_flags = HMM_PFN_REQ_FAULT;
		hmm.dev_private_owner = NULL;
		err = drm_gpusvm_coherent_to_ram(walk) ?:
		      drm_gpusvm_fault_runs(walk, &hmm);
		/* A page that comes back invalidates the range. */
		if (err && err != -EBUSY)
			n = err;
	}
	mmap_read_unlock(mm);

	return n == -EBUSY ? -EAGAIN : n;
}

/**
 * drm_gpusvm_range_evict() - Bring the pages of a range back to RAM
 * @gpusvm: The struct drm_gpusvm.
 * @range: A range of it, which may be unmapped in part.
 *
 * Acts like CPU accesses to the device pages of all devices with the owner
 * cookie of @gpusvm, and ends their timeslice.  Other pages, and memory that
 * cannot be read, are left as they are.  Unlike drm_pagemap_evict_to_ram(),
 * works by the process's addresses.  Coherent pages, which an access leaves where
 * they are, are migrated.
 *
 * Context: Process context, may sleep.  With the driver's lock held, in any
 * mode, and neither the mmap lock nor &drm_gpusvm.notifier_lock.
 *
 * Return: 0 if no page of the range is in device memory, or
 *
 * * -EBUSY: the pages keep returning to the device, or cannot move now.  The
 *   limit is a second since the last page moved.
 * * -EFAULT: the process is exiting, or a page could not be copied.
 * * -EINTR: the calling process is being killed.
 * * -ENOMEM: out of memory, for the helper or for the pages in RAM.
 */
int drm_gpusvm_range_evict(struct drm_gpusvm *gpusvm,
			   struct drm_gpusvm_range *range)
{
	struct drm_gpusvm_walk walk;
	long n, least = LONG_MAX;
	int err;

	drm_gpusvm_driver_lock_held(gpusvm, -1);

	if (!mmget_not_zero(gpusvm->mm))
		return -EFAULT;

	err = drm_gpusvm_walk_init(&walk, range, NULL);
	while (!err) {
		n = drm_gpusvm_evict_pass(&walk);
		if (!n)
			break;
		if (n > 0 && n < least) {
			least = n;
			drm_gpusvm_walk_set_deadline(&walk);
		}
		err = drm_gpusvm_walk_retry(&walk, n < 0 ? n : -EAGAIN);
	}

	drm_gpusvm_walk_fini(&walk);
	mmput(gpusvm->mm);

	return err;
}
EXPORT_SYMBOL_GPL(drm_gpusvm_range_evict);
