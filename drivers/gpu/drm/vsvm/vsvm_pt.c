// SPDX-License-Identifier: GPL-2.0-only
/*
 * The page table of the GPU: two levels, the first of which is an xarray.  A
 * leaf covers what a PMD of the CPU covers, and has one entry for each page.
 *
 * An entry is a packed address.  Its direction says what the device may do:
 * DMA_TO_DEVICE is read only, DMA_BIDIRECTIONAL is also written.  An empty entry
 * is marked by DMA_NONE, since 0 is a valid bus address.
 *
 * Memory that is contiguous and aligned takes one entry for a whole leaf: the
 * first, with the order of a leaf, and the others are empty.  This stands for
 * the large translation that hardware would have in the level above, and in the
 * TLB.  The leaf stays, so that the memory can be mapped page by page again
 * without an allocation.  A large translation is never split: GPU SVM undoes the
 * mappings of a range as a whole, and a large translation is one mapping.  The
 * next fault maps what is left with the orders that are possible then.
 *
 * Entries are read and written by the worker of the VM, which holds the
 * notifier lock for reading, and zapped by mmu notifiers, which hold it for
 * writing.  Leaves come and go by the worker only: they are allocated without
 * the notifier lock, under which no memory can be allocated.
 */

#include <linux/dma-direct.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "vsvm_drv.h"

#define VSVM_LEAF_SHIFT		PMD_SHIFT
#define VSVM_LEAF_ENTRIES	PTRS_PER_PTE
#define VSVM_LEAF_ORDER		(PMD_SHIFT - PAGE_SHIFT)

/**
 * struct vsvm_leaf - a table of page table entries
 * @entry: The entries.  Protected by the notifier lock.
 */
struct vsvm_leaf {
	struct drm_pagemap_packed_addr entry[MAX_PTRS_PER_PTE];
};

static unsigned long vsvm_pt_index(unsigned long addr)
{
	return (addr >> PAGE_SHIFT) % VSVM_LEAF_ENTRIES;
}

static struct vsvm_leaf *vsvm_pt_leaf(struct vsvm_vm *vm, unsigned long addr)
{
	return xa_load(&vm->leaves, addr >> VSVM_LEAF_SHIFT);
}

/* The first address behind the leaf that @addr is in, or @end. */
static unsigned long vsvm_pt_next(unsigned long addr, unsigned long end)
{
	return min(end, ALIGN_DOWN(addr, BIT(VSVM_LEAF_SHIFT)) +
			BIT(VSVM_LEAF_SHIFT));
}

static struct drm_pagemap_packed_addr vsvm_pt_none(void)
{
	struct drm_pagemap_device_addr none = { .dir = DMA_NONE };

	return drm_pagemap_device_addr_pack(none);
}

static bool vsvm_pt_present(struct drm_pagemap_packed_addr entry)
{
	return drm_pagemap_device_addr_unpack(entry).dir != DMA_NONE;
}

static struct vsvm_leaf *vsvm_pt_leaf_create(void)
{
	struct vsvm_leaf *leaf;
	unsigned long i;

	leaf = kmalloc(sizeof(*leaf), GFP_KERNEL_ACCOUNT);
	if (!leaf)
		return NULL;

	for (i = 0; i < VSVM_LEAF_ENTRIES; i++)
		leaf->entry[i] = vsvm_pt_none();
	return leaf;
}

/**
 * vsvm_pt_prepare() - Make sure that the tables for a range exist
 * @vm: The VM.
 * @start: First address.
 * @end: End address, exclusive.
 *
 * Context: The SVM lock is held, the notifier lock is not.  Sleeps.
 * Return: 0 or -ENOMEM.
 */
int vsvm_pt_prepare(struct vsvm_vm *vm, unsigned long start, unsigned long end)
{
	struct vsvm_leaf *leaf;
	unsigned long addr;
	int ret;

	lockdep_assert_held(&vm->svm_lock);

	for (addr = start; addr < end; addr = vsvm_pt_next(addr, end)) {
		if (vsvm_pt_leaf(vm, addr))
			continue;

		leaf = vsvm_pt_leaf_create();
		if (!leaf)
			return -ENOMEM;
		ret = xa_err(xa_store(&vm->leaves, addr >> VSVM_LEAF_SHIFT,
				      leaf, GFP_KERNEL_ACCOUNT));
		if (ret) {
			kfree(leaf);
			return ret;
		}
	}
	return 0;
}

/* Whether the leaf has one entry, for all of its pages. */
static bool vsvm_pt_is_large(const struct vsvm_leaf *leaf)
{
	return drm_pagemap_device_addr_unpack(leaf->entry[0]).order ==
	       VSVM_LEAF_ORDER;
}

static bool vsvm_pt_fits_large(unsigned long start, unsigned long end,
			       const struct drm_pagemap_device_addr *device_addr)
{
	return IS_ALIGNED(start | device_addr->addr, BIT(VSVM_LEAF_SHIFT)) &&
	       end - start == BIT(VSVM_LEAF_SHIFT);
}

/* The pages from @start to @end, which are in one leaf. */
static void vsvm_pt_map_leaf(struct vsvm_vm *vm, unsigned long start,
			     unsigned long end,
			     struct drm_pagemap_device_addr device_addr)
{
	struct vsvm_leaf *leaf = vsvm_pt_leaf(vm, start);
	unsigned long addr;

	if (vsvm_pt_fits_large(start, end, &device_addr)) {
		device_addr.order = VSVM_LEAF_ORDER;
		leaf->entry[0] = drm_pagemap_device_addr_pack(device_addr);
		return;
	}

	device_addr.order = 0;
	for (addr = start; addr < end; addr += PAGE_SIZE) {
		leaf->entry[vsvm_pt_index(addr)] =
			drm_pagemap_device_addr_pack(device_addr);
		device_addr.addr += PAGE_SIZE;
	}
}

/* The pages that one address covers, as far as they are before @end. */
static void vsvm_pt_map_run(struct vsvm_vm *vm, unsigned long start,
			    unsigned long end,
			    struct drm_pagemap_device_addr device_addr)
{
	unsigned long addr, next;

	for (addr = start; addr < end; addr = next) {
		next = vsvm_pt_next(addr, end);
		vsvm_pt_map_leaf(vm, addr, next, device_addr);
		device_addr.addr += next - addr;
	}
}

/* GPU SVM has one address for each run of pages, one after the other. */
static bool vsvm_pt_can_map(const struct drm_gpusvm_range *range,
			    unsigned long npages)
{
	const struct drm_pagemap_device_addr *device_addr = range->dma_addr;
	unsigned long i;

	for (i = 0; i < npages; i += 1UL << device_addr->order, device_addr++)
		if (!drm_pagemap_device_addr_can_pack(*device_addr))
			return false;
	return true;
}

/**
 * vsvm_pt_map() - Enter the pages of a range
 * @vm: The VM.
 * @range: The range, whose pages are valid, and whose tables exist.
 *
 * Context: The notifier lock is held.
 * Return: 0, or -ERANGE if an address does not fit in an entry, upon which
 * nothing was entered.
 */
int vsvm_pt_map(struct vsvm_vm *vm, struct drm_gpusvm_range *range)
{
	unsigned long start = drm_gpusvm_range_start(range);
	unsigned long end = drm_gpusvm_range_end(range);
	const struct drm_pagemap_device_addr *device_addr = range->dma_addr;
	unsigned long addr, next;

	lockdep_assert_held(&vm->gpusvm.notifier_lock);

	if (!vsvm_pt_can_map(range, (end - start) >> PAGE_SHIFT))
		return -ERANGE;

	for (addr = start; addr < end; addr = next) {
		next = min(end, addr + (PAGE_SIZE << device_addr->order));
		vsvm_pt_map_run(vm, addr, next, *device_addr++);
	}
	return 0;
}

/**
 * vsvm_pt_zap() - Forget the pages of a range
 * @vm: The VM.
 * @start: First address.
 * @end: End address, exclusive.
 *
 * Context: The notifier lock is held: for writing, or by the VM's worker.
 */
void vsvm_pt_zap(struct vsvm_vm *vm, unsigned long start, unsigned long end)
{
	unsigned long addr, next;
	struct vsvm_leaf *leaf;

	lockdep_assert_held(&vm->gpusvm.notifier_lock);

	for (addr = start; addr < end; addr = next) {
		next = vsvm_pt_next(addr, end);
		leaf = vsvm_pt_leaf(vm, addr);
		if (!leaf)
			continue;
		if (vsvm_pt_is_large(leaf)) {
			leaf->entry[0] = vsvm_pt_none();
			continue;
		}
		for (; addr < next; addr += PAGE_SIZE)
			leaf->entry[vsvm_pt_index(addr)] = vsvm_pt_none();
	}
}

static bool vsvm_pt_leaf_empty(const struct vsvm_leaf *leaf)
{
	unsigned long i;

	for (i = 0; i < VSVM_LEAF_ENTRIES; i++)
		if (vsvm_pt_present(leaf->entry[i]))
			return false;
	return true;
}

/**
 * vsvm_pt_prune() - Free the tables of a range that have no entries
 * @vm: The VM.
 * @start: First address.
 * @end: End address, exclusive.
 *
 * Context: The notifier lock is held, which keeps mmu notifiers out, by the
 * VM's worker.
 */
void vsvm_pt_prune(struct vsvm_vm *vm, unsigned long start, unsigned long end)
{
	struct vsvm_leaf *leaf;
	unsigned long addr;

	lockdep_assert_held(&vm->gpusvm.notifier_lock);

	for (addr = start; addr < end; addr = vsvm_pt_next(addr, end)) {
		leaf = vsvm_pt_leaf(vm, addr);
		if (leaf && vsvm_pt_leaf_empty(leaf)) {
			xa_erase(&vm->leaves, addr >> VSVM_LEAF_SHIFT);
			kfree(leaf);
		}
	}
}

/**
 * vsvm_pt_walk() - Translate an address, as the hardware would
 * @vm: The VM.
 * @addr: The address.
 * @write: Whether it is to be written.
 * @device_addr: Where to put the address of its page.
 *
 * Context: The notifier lock is held.  The translation is good until it is
 * dropped.
 * Return: False if there is no page, or it must not be written: a page fault.
 */
bool vsvm_pt_walk(struct vsvm_vm *vm, unsigned long addr, bool write,
		  struct drm_pagemap_device_addr *device_addr)
{
	unsigned long index = vsvm_pt_index(addr);
	struct vsvm_leaf *leaf;
	bool large;

	lockdep_assert_held(&vm->gpusvm.notifier_lock);

	leaf = vsvm_pt_leaf(vm, addr);
	if (!leaf)
		return false;

	large = vsvm_pt_is_large(leaf);
	*device_addr =
		drm_pagemap_device_addr_unpack(leaf->entry[large ? 0 : index]);
	if (device_addr->dir == DMA_NONE)
		return false;
	if (large)
		device_addr->addr += index << PAGE_SHIFT;
	device_addr->order = 0;
	return !write || device_addr->dir != DMA_TO_DEVICE;
}

/**
 * vsvm_pt_count_large() - Number of large translations
 * @vm: The VM.
 *
 * Context: The SVM lock is held, which keeps the leaves.  Takes the notifier
 * lock.
 * Return: The number of leaves with one entry for all of their pages.
 */
unsigned int vsvm_pt_count_large(struct vsvm_vm *vm)
{
	struct vsvm_leaf *leaf;
	unsigned int n = 0;
	unsigned long index;

	lockdep_assert_held(&vm->svm_lock);

	drm_gpusvm_notifier_lock(&vm->gpusvm);
	xa_for_each(&vm->leaves, index, leaf)
		n += vsvm_pt_is_large(leaf);
	drm_gpusvm_notifier_unlock(&vm->gpusvm);
	return n;
}

/**
 * vsvm_pt_fini() - Free all tables
 * @vm: The VM, which has no ranges any more.
 */
void vsvm_pt_fini(struct vsvm_vm *vm)
{
	struct vsvm_leaf *leaf;
	unsigned long index;

	xa_for_each(&vm->leaves, index, leaf)
		kfree(leaf);
	xa_destroy(&vm->leaves);
}
