// SPDX-License-Identifier: GPL-2.0-only OR MIT

#include <linux/bitops.h>
#include <linux/log2.h>
#include <linux/memremap.h>
#include <linux/migrate.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include <drm/drm_pagemap.h>

#include "drm_pagemap_internal.h"

/**
 * DOC: Device to device
 *
 * A page that is in another device's memory moves straight to its destination
 * if the caller asks for that by %DRM_PAGEMAP_MIGRATE_PEERS, the driver has
 * &drm_pagemap_ops.copy_from_peer, and the peer's &drm_pagemap_ops.device_map
 * gives the device an address of the page.  In the same range there may be pages
 * in RAM, without contents, and in the memory of several peers.  Pages that are
 * in the right memory already stay there and are not copied.
 *
 * Pages of a peer out of reach stay where they are, and so do all pages of the
 * range if a copy fails.  It is up to the caller to bring them to RAM and try
 * again, or to access them in place.  Should a migration that is all or nothing
 * move only some pages in the end, those are taken back to RAM, not to the peer.
 *
 * The lock and the reference that the migration has of each source keep it, its
 * allocation and the memory of the peer in place until the copy is done.  An
 * eviction or an unplug of the peer finds the page locked and waits; should it
 * come first, the migration finds the page locked and leaves it alone.  A source
 * is freed as soon as the process has its new page; the last one releases the
 * peer's allocation, as if a CPU fault had taken it.
 *
 * A timeslice holds back CPU faults, not a peer.  The faults that sleep for it
 * wake up when the page is freed, and find it on its new device.
 */

static int drm_pagemap_peers_alloc(struct drm_pagemap_peers *peers,
				   unsigned long n)
{
	gfp_t gfp = GFP_KERNEL | __GFP_NOWARN;

	if (!drm_pagemap_inject(DRM_PAGEMAP_STEP_SCRATCH, 1))
		return -ENOMEM;

	peers->addr = kvmalloc_array(n, sizeof(*peers->addr), gfp);
	peers->from = kvmalloc_array(n, sizeof(*peers->from), gfp);
	peers->to = kvmalloc_array(n, sizeof(*peers->to), gfp);

	return peers->addr && peers->from && peers->to ? 0 : -ENOMEM;
}

/* The memory of a device page that was collected, NULL for all others */
static __always_inline struct drm_pagemap *
drm_pagemap_peers_memory(unsigned long mpfn)
{
	struct page *page;

	if (!(mpfn & MIGRATE_PFN_MIGRATE))
		return NULL;
	page = migrate_pfn_to_page(mpfn);

	return page && is_zone_device_page(page) ?
	       drm_pagemap_page_to_dpagemap(page) : NULL;
}

/* Count the pages in device memory.  Returns those that are in that of peers. */
static unsigned long drm_pagemap_peers_count(struct drm_pagemap_peers *peers,
					     const unsigned long *src,
					     unsigned long npages)
{
	const struct drm_pagemap *memory;
	unsigned long i, n = 0;

	for (i = 0; i < npages; i++) {
		memory = drm_pagemap_peers_memory(src[i]);
		if (!memory)
			continue;
		if (memory == peers->dpagemap)
			peers->own++;
		else
			n++;
	}

	return n;
}

/* The order of the largest mapping that starts with the first page */
static unsigned int drm_pagemap_peers_order(const unsigned long *src,
					    unsigned long npages)
{
	struct drm_pagemap *memory = drm_pagemap_peers_memory(src[0]);
	struct page *page = migrate_pfn_to_page(src[0]);
	unsigned long pfn = page_to_pfn(page), n;

	npages = min(npages, 1UL << __ffs(pfn | LONG_MIN));
	for (n = 1; n < npages; n++)
		if (drm_pagemap_peers_memory(src[n]) != memory ||
		    src[n] >> MIGRATE_PFN_SHIFT != pfn + n ||
		    page_pgmap(pfn_to_page(pfn + n)) != page_pgmap(page))
			break;

	return ilog2(n);
}

/*
 * Map the pages from @page on, as many of ``1 << order`` as the driver does at a
 * time.  Returns the number of pages to go on after.
 */
static unsigned long drm_pagemap_peers_map_run(struct drm_pagemap_peers *peers,
					       struct page *page,
					       unsigned int order)
{
	struct drm_pagemap_device_addr *addr = peers->addr + peers->nmapped;
	struct page **from = peers->from + peers->nmapped;
	unsigned long i, n;

	if (drm_pagemap_map_page(page, peers->dpagemap->dev, order,
				 DMA_TO_DEVICE, addr))
		return 1UL << order;

	/* What was mapped beyond that is not the business of the copy. */
	if (addr->order > order)
		addr->order = order;
	n = 1UL << addr->order;
	for (i = 0; i < n; i++) {
		from[i] = page + i;
		if (!i)
			continue;
		addr[i] = addr[0];
		addr[i].addr += i << PAGE_SHIFT;
		addr[i].order = 0;
	}
	peers->nmapped += n;

	return n;
}

/**
 * drm_pagemap_peers_map() - Map the pages of a range that are on peers
 * @peers: Where to, zeroed but for &drm_pagemap_peers.dpagemap.
 * @src: The pages, collected by migrate_vma_setup().
 * @npages: Number of entries of @src.
 *
 * Pages that the device cannot reach are left out.
 *
 * Context: Process context, may sleep.  The pages are locked.
 * Return: 0 or -ENOMEM.  In either case drm_pagemap_peers_free() has to be
 * called.
 */
int drm_pagemap_peers_map(struct drm_pagemap_peers *peers,
			  const unsigned long *src, unsigned long npages)
{
	const struct drm_pagemap *memory;
	unsigned long i, n, run;
	int err;

	n = drm_pagemap_peers_count(peers, src, npages);
	peers->found = n;
	if (!n)
		return 0;

	err = drm_pagemap_peers_alloc(peers, n);
	if (err)
		return err;

	for (i = 0; n; i += run) {
		run = 1;
		memory = drm_pagemap_peers_memory(src[i]);
		if (!memory || memory == peers->dpagemap)
			continue;
		run = drm_pagemap_peers_map_run(peers,
						migrate_pfn_to_page(src[i]),
						drm_pagemap_peers_order(src + i, n));
		n -= run;
	}

	return 0;
}

/**
 * drm_pagemap_peers_copy() - Copy from peers
 * @peers: The pages.
 *
 * Context: As drm_pagemap_peers_map().
 * Return: 0 or an error of the driver's.
 */
int drm_pagemap_peers_copy(const struct drm_pagemap_peers *peers)
{
	struct drm_pagemap *dpagemap = peers->dpagemap, *memory;
	unsigned long first, end;
	int err;

	for (first = 0; first < peers->ncopy; first = end) {
		memory = drm_pagemap_page_to_dpagemap(peers->from[first]);
		for (end = first + 1; end < peers->ncopy; end++)
			if (drm_pagemap_page_to_dpagemap(peers->from[end]) !=
			    memory)
				break;

		err = dpagemap->ops->copy_from_peer(dpagemap,
						    peers->to + first,
						    peers->addr + first,
						    end - first);
		if (err)
			return err;
	}

	return 0;
}

/**
 * drm_pagemap_peers_unmap() - Undo drm_pagemap_peers_map()
 * @peers: The pages, not yet freed.
 *
 * Context: As drm_pagemap_peers_map().
 */
void drm_pagemap_peers_unmap(struct drm_pagemap_peers *peers)
{
	struct drm_pagemap_device_addr *addr = peers->addr;
	struct page **from = peers->from;
	unsigned long i, n;

	for (i = 0; i < peers->nmapped; i += n) {
		n = 1UL << addr[i].order;
		drm_pagemap_unmap_page(drm_pagemap_page_to_dpagemap(from[i]),
				       peers->dpagemap->dev, addr[i]);
	}
	peers->nmapped = 0;
}

/**
 * drm_pagemap_peers_free() - Free what drm_pagemap_peers_map() allocated
 * @peers: The pages.
 *
 * Context: Process context.
 */
void drm_pagemap_peers_free(struct drm_pagemap_peers *peers)
{
	kvfree(peers->addr);
	kvfree(peers->from);
	kvfree(peers->to);
}

static void drm_pagemap_peers_leave(struct drm_pagemap_region *region,
				    unsigned long n)
{
	if (region && n)
		atomic64_add(n, &region->counters[DRM_PAGEMAP_PAGES_TO_PEERS]);
}

/**
 * drm_pagemap_peers_account() - Account for pages that moved from peers
 * @src: The pages, after migrate_vma_pages().
 * @dst: Their destinations.
 * @npages: Number of entries of @src and @dst.
 *
 * Context: As drm_pagemap_peers_map().
 * Return: The number of pages.
 */
unsigned long drm_pagemap_peers_account(const unsigned long *src,
					const unsigned long *dst,
					unsigned long npages)
{
	struct drm_pagemap_region *region = NULL;
	const struct drm_pagemap_zdd *zdd;
	unsigned long i, n = 0, moved = 0;

	for (i = 0; i < npages; i++) {
		if (!dst[i] || !drm_pagemap_peers_memory(src[i]))
			continue;
		zdd = migrate_pfn_to_page(src[i])->zone_device_data;
		if (zdd->region != region) {
			drm_pagemap_peers_leave(region, n);
			region = zdd->region;
			n = 0;
		}
		n++;
		moved++;
	}
	drm_pagemap_peers_leave(region, n);

	return moved;
}
