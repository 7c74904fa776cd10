/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
#ifndef _DRM_PAGEMAP_H_
#define _DRM_PAGEMAP_H_

#include <linux/atomic.h>
#include <linux/bitfield.h>
#include <linux/bits.h>
#include <linux/completion.h>
#include <linux/dma-direction.h>
#include <linux/hmm.h>
#include <linux/list.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/rwsem.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

struct dentry;
struct device;
struct drm_device;
struct drm_pagemap;
struct drm_pagemap_devmem;
struct drm_pagemap_region;
struct drm_printer;
struct shrinker;

/**
 * enum drm_interconnect_protocol - the kind of a device address
 * @DRM_INTERCONNECT_SYSTEM: A DMA address of system memory, made by the DMA
 *                           API for the device.
 * @DRM_INTERCONNECT_DRIVER: The first value that drivers define themselves, for
 *                           device-private pages: a VRAM offset, or an address
 *                           on a private interconnect.
 *
 * Drivers use values from %DRM_INTERCONNECT_DRIVER on.  An address with such a
 * protocol means something only to the drivers that share the device-private
 * page owner.
 */
enum drm_interconnect_protocol {
	DRM_INTERCONNECT_SYSTEM,
	DRM_INTERCONNECT_DRIVER,
	/* A driver can add private values beyond DRM_INTERCONNECT_DRIVER */
};

/**
 * struct drm_pagemap_device_addr - a page, or a run of pages, as a device
 * addresses it
 * @addr: Address in bytes.  @proto tells its origin.
 * @proto: enum drm_interconnect_protocol or a driver's own value.
 * @order: The address covers ``PAGE_SIZE << order`` bytes.
 * @dir: enum dma_data_direction the address was mapped with.
 */
struct drm_pagemap_device_addr {
	dma_addr_t addr;
	u64 proto : 54;
	u64 order : 8;
	u64 dir : 2;
};

/**
 * drm_pagemap_device_addr_encode() - Fill in a device address
 * @addr: Address in bytes.
 * @proto: Protocol of @addr.
 * @order: Page order of the mapping, 0 to 255.
 * @dir: Direction of the mapping.
 *
 * Context: Any.
 * Return: The four values as one struct drm_pagemap_device_addr.
 */
static inline struct drm_pagemap_device_addr
drm_pagemap_device_addr_encode(dma_addr_t addr,
			       enum drm_interconnect_protocol proto,
			       unsigned int order,
			       enum dma_data_direction dir)
{
	return (struct drm_pagemap_device_addr) {
		.addr = addr,
		.proto = proto,
		.order = order,
		.dir = dir,
	};
}

/**
 * struct drm_pagemap_packed_addr - a struct drm_pagemap_device_addr in 8 bytes
 * @val: The page-aligned address in the bits from 12 up, below it the direction
 *       (bits 0 and 1), the order (bits 2 to 7) and the protocol (bits 8 to 11).
 *
 * For tables with one entry per page, where half the size counts.  Only page
 * aligned addresses with an order up to 63 and a protocol up to 15 fit, which
 * drm_pagemap_device_addr_can_pack() tells.
 */
struct drm_pagemap_packed_addr {
	u64 val;
};

#define DRM_PAGEMAP_PACKED_DIR		GENMASK_ULL(1, 0)
#define DRM_PAGEMAP_PACKED_ORDER	GENMASK_ULL(7, 2)
#define DRM_PAGEMAP_PACKED_PROTO	GENMASK_ULL(11, 8)
#define DRM_PAGEMAP_PACKED_ADDR		GENMASK_ULL(63, 12)

/**
 * drm_pagemap_device_addr_can_pack() - Whether an address fits in 8 bytes
 * @addr: The address.
 *
 * %DMA_MAPPING_ERROR is not page aligned and therefore never fits, so a failed
 * mapping cannot end up in a table by accident.
 *
 * Context: Any.
 * Return: True if drm_pagemap_device_addr_pack() loses nothing of @addr.
 */
static inline bool
drm_pagemap_device_addr_can_pack(struct drm_pagemap_device_addr addr)
{
	return PAGE_ALIGNED(addr.addr) &&
	       FIELD_FIT(DRM_PAGEMAP_PACKED_PROTO, addr.proto) &&
	       FIELD_FIT(DRM_PAGEMAP_PACKED_ORDER, addr.order);
}

/**
 * drm_pagemap_device_addr_pack() - Pack an address into 8 bytes
 * @addr: An address that drm_pagemap_device_addr_can_pack() accepts.  Of any
 *        other, the bits that do not fit are lost.
 *
 * Context: Any.
 * Return: The packed address.
 */
static inline struct drm_pagemap_packed_addr
drm_pagemap_device_addr_pack(struct drm_pagemap_device_addr addr)
{
	return (struct drm_pagemap_packed_addr) {
		.val = (addr.addr & DRM_PAGEMAP_PACKED_ADDR) |
		       FIELD_PREP(DRM_PAGEMAP_PACKED_PROTO, addr.proto) |
		       FIELD_PREP(DRM_PAGEMAP_PACKED_ORDER, addr.order) |
		       FIELD_PREP(DRM_PAGEMAP_PACKED_DIR, addr.dir),
	};
}

/**
 * drm_pagemap_device_addr_unpack() - Unpack an address
 * @packed: A packed address.
 *
 * Context: Any.
 * Return: The address that was given to drm_pagemap_device_addr_pack().
 */
static inline struct drm_pagemap_device_addr
drm_pagemap_device_addr_unpack(struct drm_pagemap_packed_addr packed)
{
	return (struct drm_pagemap_device_addr) {
		.addr = packed.val & DRM_PAGEMAP_PACKED_ADDR,
		.proto = FIELD_GET(DRM_PAGEMAP_PACKED_PROTO, packed.val),
		.order = FIELD_GET(DRM_PAGEMAP_PACKED_ORDER, packed.val),
		.dir = FIELD_GET(DRM_PAGEMAP_PACKED_DIR, packed.val),
	};
}

/**
 * struct drm_pagemap_ops - operations of a provider of device memory
 */
struct drm_pagemap_ops {
	/**
	 * @device_map: Give the address under which @dev reaches @page, a
	 * resident page of @dpagemap, directly.  @dev is the page's own device
	 * or a peer with the same device-private page owner.
	 *
	 * With @order, it is the address of ``1 << order`` pages from @page on,
	 * all of them resident and of one struct dev_pagemap, and @page is
	 * aligned to their number by its pfn.  A driver that cannot map so many
	 * at a time, since the memory behind them is not contiguous, returns
	 * the order that it mapped.
	 *
	 * Called in process context.  GPU SVM holds its notifier lock, so that
	 * this must not wait for the reclaim of memory.  The caller makes sure
	 * that the pages stay where they are until @device_unmap, usually by an
	 * mmu notifier, or, to copy them, by their locks.
	 *
	 * Return an address for which dma_mapping_error() is true if @dev
	 * cannot reach the page: the caller then migrates it instead.
	 */
	struct drm_pagemap_device_addr
	(*device_map)(struct drm_pagemap *dpagemap, struct device *dev,
		      struct page *page, unsigned int order,
		      enum dma_data_direction dir);

	/**
	 * @device_unmap: Undo @device_map.  May be called with an mmu notifier
	 * or reclaim in progress, so it must not allocate memory.  Optional.
	 */
	void (*device_unmap)(struct drm_pagemap *dpagemap, struct device *dev,
			     struct drm_pagemap_device_addr addr);

	/**
	 * @populate_mm: Move the range from @start to @end (exclusive) of @mm
	 * into the memory of @dpagemap, typically by allocating a struct
	 * drm_pagemap_devmem and calling drm_pagemap_migrate_to_devmem().
	 *
	 * Called by drm_pagemap_populate_mm() with a reference on @mm and its
	 * mmap lock held for reading.  Returns 0 or a negative errno.
	 */
	int (*populate_mm)(struct drm_pagemap *dpagemap,
			   unsigned long start, unsigned long end,
			   struct mm_struct *mm, unsigned long timeslice_ms);

	/**
	 * @copy_from_peer: Copy @npages pages from the memory of a peer to the
	 * pages @pages of @dpagemap.  @addr has the address of each source, made
	 * for the device of @dpagemap by the peer's @device_map: one per page,
	 * and all of one peer.  If &drm_pagemap_device_addr.order is n, the
	 * ``1 << n`` pages from this one on are contiguous on the peer.  That
	 * may be more than are left to copy: @npages is what counts.
	 *
	 * Optional.  Without it, pages that are in the memory of a peer are not
	 * migrated, and have to go by way of RAM.
	 *
	 * The copy must be complete on return, and must leave the sources as
	 * they are.  Called with pages of the process locked, as
	 * &drm_pagemap_devmem_ops.populate_devmem_pfn, and so are the
	 * @device_map and the @device_unmap of the peer then.  The locks keep the
	 * sources in place: an eviction or an unplug of the peer that is under
	 * way waits for them, and must not be waited for.  Returns 0 or a
	 * negative errno, after which nothing is taken as copied.
	 */
	int (*copy_from_peer)(struct drm_pagemap *dpagemap, struct page **pages,
			      const struct drm_pagemap_device_addr *addr,
			      unsigned long npages);
};

/**
 * struct drm_pagemap - a device's memory that can back a process's memory
 * @ops: The provider's operations.
 * @dev: The device that the memory belongs to.
 *
 * The driver sets both members.  With a region, it must live exactly as long as
 * the struct drm_device: embed it in the device, or drmm_kzalloc() it.
 */
struct drm_pagemap {
	const struct drm_pagemap_ops *ops;
	struct device *dev;
};

/**
 * struct drm_pagemap_devmem_ops - operations of a driver's allocations
 */
struct drm_pagemap_devmem_ops {
	/**
	 * @devmem_release: Drop the reference to the allocation that a
	 * successful migration took over.  Called exactly once, after the last
	 * device page of the allocation was freed, always in process context;
	 * may sleep, but memory reclaim may wait for it: it must not flush a
	 * workqueue without %WQ_MEM_RECLAIM.  Optional: without it, a driver waits for
	 * &drm_pagemap_devmem.detached.
	 */
	void (*devmem_release)(struct drm_pagemap_devmem *devmem_allocation);

	/**
	 * @populate_devmem_pfn: Write the page frame numbers of the first
	 * @npages device pages of the allocation to @pfn, which has room for
	 * those of the whole allocation.  They need not be contiguous.  Called
	 * with pages of the process locked: must not wait for CPU faults, mmu
	 * notifiers or the mmap lock.  Must give the same pfns each time, all
	 * of one region or, without one, of one struct dev_pagemap.  In a
	 * region with %DRM_PAGEMAP_REGION_ON_DEMAND, the driver has a reference
	 * to each of them, see drm_pagemap_region_get_pages().  Returns 0 or a
	 * negative errno.
	 */
	int (*populate_devmem_pfn)(struct drm_pagemap_devmem *devmem_allocation,
				   unsigned long npages, unsigned long *pfn);

	/**
	 * @copy_to_devmem: Copy @npages pages from system memory at the DMA
	 * addresses @dma_addr to the device pages @pages.  No entry of @pages
	 * is NULL.  The source of a page that has no contents yet is a page of
	 * zeroes, or, for allocations with %DRM_PAGEMAP_DEVMEM_CLEARED, the
	 * address 0, which the driver skips.
	 *
	 * The copy must be complete on return.  Called with the pages of the
	 * process locked, as @populate_devmem_pfn.  Returns 0 or a negative
	 * errno, after which nothing is taken as copied.
	 */
	int (*copy_to_devmem)(struct page **pages, dma_addr_t *dma_addr,
			      unsigned long npages);

	/**
	 * @copy_to_ram: The reverse of @copy_to_devmem.  All @pages belong to
	 * one allocation.  May be called from a CPU fault and for memory
	 * reclaim of the device: must not allocate memory with __GFP_FS or
	 * take locks that are held across calls of this layer.  After -EAGAIN
	 * the copy is tried again a moment later; any other error of a CPU
	 * fault means SIGBUS for the process.
	 */
	int (*copy_to_ram)(struct page **pages, dma_addr_t *dma_addr,
			   unsigned long npages);
};

/**
 * DRM_PAGEMAP_DEVMEM_CLEARED - The allocation's memory comes zeroed.
 *
 * The driver promises that the pages of the allocation read as zero, and its
 * copy_to_devmem() finds ``dma_addr[i] == 0`` for pages without contents.
 */
#define DRM_PAGEMAP_DEVMEM_CLEARED	BIT(0)

/**
 * struct drm_pagemap_devmem - an allocation of device memory for a range
 * @dev: The device that copies: DMA mappings are made for it.
 * @mm: The address space it was made for.  Informative: the layer never
 *      dereferences it, since pages outlive it after fork().
 * @detached: Completed when no device page of the allocation is in use any more.
 * @ops: The driver's operations.
 * @dpagemap: The memory it was allocated from.
 * @size: Size in bytes, a multiple of PAGE_SIZE.
 * @timeslice_expiration: Time in jiffies (64 bit) until which CPU faults leave
 *                        the pages on the device; 0 for none.  Only faults of
 *                        the process that migrated them wait, and only on
 *                        pages that it shares with nobody.  Written when the
 *                        migration to the device succeeds, and cleared by
 *                        eviction.
 * @flags: %DRM_PAGEMAP_DEVMEM_CLEARED or 0.  Set by the driver after
 *         drm_pagemap_devmem_init().
 * @fault_window: Number of bytes that a CPU fault brings back at once, rounded up
 *                to pages; 0 for the whole allocation.  The window is aligned to
 *                its size, counted from the start of the migrated range.  Set
 *                by the driver after drm_pagemap_devmem_init().
 *
 * Embedded in the driver's buffer object.
 */
struct drm_pagemap_devmem {
	struct device *dev;
	struct mm_struct *mm;
	struct completion detached;
	const struct drm_pagemap_devmem_ops *ops;
	struct drm_pagemap *dpagemap;
	size_t size;
	u64 timeslice_expiration;
	unsigned int flags;
	unsigned long fault_window;
	/* private: whether a migration has taken it over */
	bool taken;
};

/**
 * DRM_PAGEMAP_MIGRATE_PARTIAL - Move missing pages, as far as they can move.
 *
 * Without it, a migration is all or nothing.
 */
#define DRM_PAGEMAP_MIGRATE_PARTIAL	BIT(0)

/**
 * DRM_PAGEMAP_MIGRATE_PEERS - Move pages from the memory of peers, too.
 *
 * Without it, and without &drm_pagemap_ops.copy_from_peer, pages that are in
 * another device's memory are pages that cannot move.
 */
#define DRM_PAGEMAP_MIGRATE_PEERS	BIT(1)

/**
 * struct drm_pagemap_migration - arguments and result of drm_pagemap_migrate()
 * @dpagemap: The memory to migrate to.  NULL for that of @devmem.
 * @devmem: In: the allocation to use, or NULL to have @alloc make one.  Out: the
 *          allocation that was used, or NULL if none was needed.
 * @alloc: Called once it is known how many pages have to move, if @devmem is
 *         NULL, to make an allocation of at least @npages pages.  Runs with the
 *         mmap lock and pages of the process locked, as
 *         &drm_pagemap_devmem_ops.populate_devmem_pfn, and must not evict.
 *         Returns an initialized allocation or an ERR_PTR().
 * @mm: The address space.
 * @start: First address, page aligned.
 * @end: End address, exclusive, page aligned.
 * @timeslice_ms: Milliseconds for which CPU faults leave the pages alone.
 * @pgmap_owner: The owner of the device-private pages.
 * @flags: %DRM_PAGEMAP_MIGRATE_PARTIAL, %DRM_PAGEMAP_MIGRATE_PEERS, both or 0.
 * @moved: Out: pages that this call moved.
 * @from_peers: Out: those of @moved that came straight from another device's
 *              memory.
 * @resident: Out: pages that were in the memory of @dpagemap already.
 * @left: Out: pages that stay elsewhere: cannot be moved now, or are in the
 *        memory of another device, which is out of reach or was not asked for.
 */
struct drm_pagemap_migration {
	struct drm_pagemap *dpagemap;
	struct drm_pagemap_devmem *devmem;
	struct drm_pagemap_devmem *(*alloc)(struct drm_pagemap_migration *mig,
					    unsigned long npages);
	struct mm_struct *mm;
	unsigned long start;
	unsigned long end;
	unsigned long timeslice_ms;
	void *pgmap_owner;
	unsigned int flags;
	unsigned long moved;
	unsigned long from_peers;
	unsigned long resident;
	unsigned long left;
};

/**
 * enum drm_pagemap_counter - counters of a region
 * @DRM_PAGEMAP_PAGES_TO_DEVMEM: Pages migrated to the region, from anywhere.
 * @DRM_PAGEMAP_PAGES_FAULTED: Pages that CPU faults migrated to RAM.
 * @DRM_PAGEMAP_PAGES_EVICTED: Pages that eviction, or
 *                             drm_pagemap_coherent_to_ram(), migrated to RAM.
 * @DRM_PAGEMAP_CPU_FAULTS: CPU faults served by a migration.
 * @DRM_PAGEMAP_TIMESLICE_SLEEPS: CPU faults that slept for the timeslice.
 * @DRM_PAGEMAP_TO_DEVMEM_FAILS: Migrations to the region that failed.
 * @DRM_PAGEMAP_TO_RAM_FAILS: Copies to RAM that failed, in passes.
 * @DRM_PAGEMAP_PAGES_FROM_PEERS: Pages migrated to the region straight from
 *                                another device's memory.
 * @DRM_PAGEMAP_PAGES_TO_PEERS: Pages migrated from the region straight to
 *                              another device's memory.
 * @DRM_PAGEMAP_PAGES_POISONED: Pages of the region that turned out to be broken.
 * @DRM_PAGEMAP_NUM_COUNTERS: The number of counters.
 */
enum drm_pagemap_counter {
	DRM_PAGEMAP_PAGES_TO_DEVMEM,
	DRM_PAGEMAP_PAGES_FAULTED,
	DRM_PAGEMAP_PAGES_EVICTED,
	DRM_PAGEMAP_CPU_FAULTS,
	DRM_PAGEMAP_TIMESLICE_SLEEPS,
	DRM_PAGEMAP_TO_DEVMEM_FAILS,
	DRM_PAGEMAP_TO_RAM_FAILS,
	DRM_PAGEMAP_PAGES_FROM_PEERS,
	DRM_PAGEMAP_PAGES_TO_PEERS,
	DRM_PAGEMAP_PAGES_POISONED,
	DRM_PAGEMAP_NUM_COUNTERS,
};

/**
 * struct drm_pagemap_part - a part of a region, with struct pages or without
 * @pgmap: The pages as the mm core knows them.
 * @region: The region.
 *
 * The part is the whole region unless that has %DRM_PAGEMAP_REGION_ON_DEMAND.
 */
struct drm_pagemap_part {
	struct dev_pagemap pgmap;
	struct drm_pagemap_region *region;
	/* private: its struct pages exist; protected by @region->parts_lock */
	bool present;
	/* private: who keeps them; protected by @region->parts_lock */
	unsigned long users;
};

/**
 * struct drm_pagemap_region - a registered pool of device pages
 * @owner: Owner cookie of the pages.
 * @dpagemap: The memory that the region backs.
 * @drm: The device, for messages and debugfs.
 * @start_pfn: First page frame number.
 * @npages: Number of pages.
 * @flags: &drm_pagemap_region_args.flags
 * @counters: Since registration, see enum drm_pagemap_counter.
 *
 * Made by devm_drm_pagemap_region_add(); drivers only read it.  Its pages go when
 * the device is unbound, the struct stays for as long as the struct drm_device.
 */
struct drm_pagemap_region {
	void *owner;
	struct drm_pagemap *dpagemap;
	struct drm_device *drm;
	unsigned long start_pfn;
	unsigned long npages;
	unsigned int flags;
	atomic64_t counters[DRM_PAGEMAP_NUM_COUNTERS];
	/* private: held for reading by migrations to the region */
	struct rw_semaphore gate;
	/* private: closed to migrations; protected by @gate */
	bool unplugged;
	/* private: without pages; protected by @gate */
	bool gone;
	/* private: in the list of all regions, protected by the lock of that */
	struct list_head link;
	/* private: */
	struct dentry *debugfs;
	/* private: users of struct pages that unbind waits for */
	atomic_t visitors;
	/* private: the parts, of a power of two of pages each */
	struct drm_pagemap_part *parts;
	unsigned long nparts;
	unsigned int part_shift;
	/* private: the type of the memory, and the node of its struct pages */
	enum memory_type type;
	int nid;
	/* private: held while parts are made and removed */
	struct mutex make_lock;
	/* private: protects the counts here and in @parts */
	spinlock_t parts_lock;
	/* private: pfns of broken pages */
	struct xarray broken;
	/* private: parts with struct pages, those without users, and to remove */
	unsigned long npresent;
	unsigned long nidle;
	unsigned long nreclaim;
	/* private: */
	struct shrinker *shrinker;
	struct workqueue_struct *reclaim_wq;
	struct work_struct reclaim_work;
};

/**
 * DRM_PAGEMAP_REGION_COHERENT - Memory that the CPU can access.
 *
 * The pages are %MEMORY_DEVICE_COHERENT instead of %MEMORY_DEVICE_PRIVATE: page
 * tables map them like RAM, and the CPU reads and writes them where they are.
 */
#define DRM_PAGEMAP_REGION_COHERENT	BIT(0)

/**
 * DRM_PAGEMAP_REGION_ON_DEMAND - Struct pages are made when they are used.
 *
 * Before anything is migrated to a page, the driver takes a reference to its
 * struct page by drm_pagemap_region_get_pages().  For private memory only.
 */
#define DRM_PAGEMAP_REGION_ON_DEMAND	BIT(1)

/**
 * struct drm_pagemap_region_args - description of a region to register
 * @dpagemap: The memory that the pages stand for.  It must live exactly as long
 *            as the struct drm_device: embed it there, or drmm_kzalloc() it.
 * @name: Name of the debugfs file, "pagemap-" followed by @name, that shows what
 *        drm_pagemap_region_print() prints.  It is made if the device has a
 *        directory.
 * @size: Size of the pool in bytes, a multiple of PAGE_SIZE.
 * @owner: Owner cookie of the pages, not NULL.  Devices that can access each
 *         other's memory use the same one.
 * @start: With %DRM_PAGEMAP_REGION_COHERENT, the physical address at which the CPU
 *         accesses the memory.  It and @size are multiples of
 *         memremap_compat_align(), 2 MiB on x86_64.  The driver owns the range,
 *         and keeps it until the region is gone.  Otherwise 0.
 * @flags: %DRM_PAGEMAP_REGION_COHERENT, %DRM_PAGEMAP_REGION_ON_DEMAND or 0.
 */
struct drm_pagemap_region_args {
	struct drm_pagemap *dpagemap;
	const char *name;
	u64 size;
	void *owner;
	u64 start;
	unsigned int flags;
};

/**
 * drm_pagemap_page_is_devmem() - Whether a page is device memory of an owner
 * @page: A page that the process has mapped, looked up by hmm_range_fault() with
 *        @owner, or collected by migrate_vma_setup() with it.
 * @owner: The owner of the device pages.
 *
 * Device-private pages of others do not get here, coherent ones do: they are to
 * be accessed like RAM.
 *
 * Context: Any.
 * Return: True if &page.zone_device_data belongs to DRM pagemap.
 */
static inline bool drm_pagemap_page_is_devmem(const struct page *page,
					      const void *owner)
{
	return IS_ENABLED(CONFIG_DEVICE_PRIVATE) && is_zone_device_page(page) &&
	       (page_pgmap(page)->type == MEMORY_DEVICE_PRIVATE ||
		(page_pgmap(page)->type == MEMORY_DEVICE_COHERENT &&
		 page_pgmap(page)->owner == owner));
}

/**
 * drm_pagemap_page_to_region() - The region of a device page
 * @page: A page of a region, in use or free.
 *
 * Context: Any.
 * Return: The region.  Never call it for a page of a struct dev_pagemap that
 * was not made by devm_drm_pagemap_region_add().
 */
static inline struct drm_pagemap_region *
drm_pagemap_page_to_region(const struct page *page)
{
	return container_of(page_pgmap(page), struct drm_pagemap_part,
			    pgmap)->region;
}

void drm_pagemap_devmem_init(struct drm_pagemap_devmem *devmem_allocation,
			     struct device *dev, struct mm_struct *mm,
			     const struct drm_pagemap_devmem_ops *ops,
			     struct drm_pagemap *dpagemap, size_t size);
int drm_pagemap_migrate(struct drm_pagemap_migration *mig);
int drm_pagemap_migrate_to_devmem(struct drm_pagemap_devmem *devmem_allocation,
				  struct mm_struct *mm,
				  unsigned long start, unsigned long end,
				  unsigned long timeslice_ms,
				  void *pgmap_owner);
int drm_pagemap_evict_to_ram(struct drm_pagemap_devmem *devmem_allocation);
int drm_pagemap_coherent_to_ram(struct mm_struct *mm,
				unsigned long start, unsigned long end,
				void *pgmap_owner);
int drm_pagemap_memory_failure(struct page *page);
const struct dev_pagemap_ops *drm_pagemap_pagemap_ops_get(void);
struct drm_pagemap *drm_pagemap_page_to_dpagemap(struct page *page);
int drm_pagemap_populate_mm(struct drm_pagemap *dpagemap,
			    unsigned long start, unsigned long end,
			    struct mm_struct *mm, unsigned long timeslice_ms);
void drm_pagemap_release_flush(void);

int drm_pagemap_map_page(struct page *page, struct device *dev,
			 unsigned int order, enum dma_data_direction dir,
			 struct drm_pagemap_device_addr *addr);
void drm_pagemap_unmap_page(struct drm_pagemap *dpagemap, struct device *dev,
			    struct drm_pagemap_device_addr addr);

struct drm_pagemap_region *
devm_drm_pagemap_region_register(struct drm_device *drm,
				 const struct drm_pagemap_region_args *args);
struct drm_pagemap_region *
devm_drm_pagemap_region_add(struct drm_device *drm,
			    struct drm_pagemap *dpagemap, const char *name,
			    u64 size, void *owner);
int drm_pagemap_region_get_pages(struct drm_pagemap_region *region,
				 unsigned long pfn, unsigned long npages);
bool drm_pagemap_region_tryget_pages(struct drm_pagemap_region *region,
				     unsigned long pfn, unsigned long npages);
void drm_pagemap_region_put_pages(struct drm_pagemap_region *region,
				  unsigned long pfn, unsigned long npages);
void drm_pagemap_region_unplug(struct drm_pagemap_region *region);
unsigned long drm_pagemap_region_resident(struct drm_pagemap_region *region);
void drm_pagemap_region_print(struct drm_pagemap_region *region,
			      struct drm_printer *p);

#endif
