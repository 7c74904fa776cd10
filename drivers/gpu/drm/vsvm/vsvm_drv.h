/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _VSVM_DRV_H_
#define _VSVM_DRV_H_

#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/sizes.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/xarray.h>

#include <drm/drm_device.h>
#include <drm/drm_file.h>
#include <drm/drm_mm.h>
#include <drm/drm_pagemap.h>

struct drm_memory_stats;
struct drm_printer;
struct drm_vsvm_page;

/**
 * DOC: Life times
 *
 * A struct vsvm_device lives as long as an open file or the bound device needs
 * it.  Its region and the memory behind it go when the device is unbound:
 * drm_dev_unplug() lets no new user in and waits for those inside
 * drm_dev_enter(), drm_pagemap_region_unplug() brings every page back to
 * system memory and every struct vsvm_bo to its release, and only then devres
 * unmaps the region and frees what is behind it.
 *
 * A struct vsvm_bo belongs to the pages in it, which belong to processes.  It
 * outlives the VM, the file and the process that made it, and points only to
 * the struct vsvm_client, which is counted.
 */

/**
 * DOC: Lock order
 *
 * From the outside in::
 *
 *   drm_dev_enter()
 *     mm->mmap_lock                     (read)
 *       page locks                      (taken by DRM pagemap and by mm)
 *         vsvm_pool.lock
 *           memory reclaim
 *             mmu notifiers
 *               vsvm_vm.notifier_lock   (spinlock)
 *
 * Eviction, and waiting for it, is done with the mmap lock at most: neither
 * with pages locked, since two that wait for each other's pages would never
 * end, nor with vsvm_pool.lock, which the release of an allocation takes.
 * Copies between the memories take no lock at all.
 */

#define VSVM_MAX_DEVICES	16
#define VSVM_MAX_VRAM_MB	4096
#define VSVM_MAX_VMS		64
#define VSVM_MAX_TIMESLICE_MS	10000
#define VSVM_MAX_CHUNK		SZ_2M

/*
 * Address of device memory on the private interconnect, for the device itself
 * and its peers: the index of the device above the offset in its memory.
 */
#define VSVM_INTERCONNECT_VRAM		DRM_INTERCONNECT_DRIVER
#define VSVM_INTERCONNECT_DEVICE_SHIFT	48

/**
 * struct vsvm_pool - the device memory and who has it
 * @size: Size in pages.
 * @memory: What the device pages are made of, page by page in the same order.
 *          A free page keeps its contents, as in real hardware.
 * @lock: Serializes allocation and release.
 * @mm: Free and allocated blocks, in pages.  Protected by @lock.
 * @free: Number of free pages.  Protected by @lock.
 * @lru: Each struct vsvm_bo that can be evicted, the oldest first.  Protected
 *       by @lock.
 */
struct vsvm_pool {
	unsigned long size;
	void *memory;
	/* Taken by the release of an allocation. */
	struct mutex lock;
	struct drm_mm mm;
	unsigned long free;
	struct list_head lru;
};

/**
 * struct vsvm_device - one virtual GPU
 * @drm: The DRM device.
 * @dpagemap: Its memory, for DRM pagemap.
 * @pool: Its memory, for itself.
 * @index: Index among all devices.
 */
struct vsvm_device {
	struct drm_device drm;
	struct drm_pagemap dpagemap;
	struct vsvm_pool pool;
	unsigned int index;
};

/**
 * struct vsvm_client - an open file, for those who may outlive it
 * @ref: One for the file, one for each struct vsvm_bo.
 * @bos: Its allocations.  Protected by the lock of the device's pool.
 * @vms: The VMs by handle.  Has its own lock.  Empty after the file was closed.
 */
struct vsvm_client {
	struct kref ref;
	struct list_head bos;
	struct xarray vms;
};

/**
 * struct vsvm_bo - an allocation of device memory
 * @devmem: What DRM pagemap knows of it.
 * @ref: One for DRM pagemap while pages are in use, one for each user.
 * @client: Who made it, or NULL for another driver.
 * @npages: Size in pages.
 * @blocks: The struct vsvm_block it consists of.  Emptied when no page is in
 *          use any more, constant before.  Protected by &vsvm_pool.lock.
 * @lru_link: In &vsvm_pool.lru.  Protected by &vsvm_pool.lock.
 * @client_link: In &vsvm_client.bos.  Protected by &vsvm_pool.lock.
 */
struct vsvm_bo {
	struct drm_pagemap_devmem devmem;
	struct kref ref;
	struct vsvm_client *client;
	unsigned long npages;
	struct list_head blocks;
	struct list_head lru_link;
	struct list_head client_link;
};

/**
 * struct vsvm_populate - a migration to the device
 * @mig: Arguments and result of the layer.
 * @client: Who pays for the memory, or NULL.
 * @fault_window: For the new allocation, in bytes.
 * @bo: The allocation to use, with a reference, or NULL.
 * @wanted: Size of the allocation that there was no room for, in pages.
 * @lent: Whether the layer was given a reference to @bo.
 */
struct vsvm_populate {
	struct drm_pagemap_migrate mig;
	struct vsvm_client *client;
	unsigned long fault_window;
	struct vsvm_bo *bo;
	unsigned long wanted;
	bool lent;
};

/**
 * struct vsvm_vm - a device's view of a process's address space
 * @ref: One for the handle, one for each ioctl in progress.
 * @vdev: The device.
 * @client: The file it belongs to; not counted, the file outlives it.
 * @mm: The address space.  Its struct is held, its memory is not.
 * @notifier: Tells that memory anywhere in @mm changes.
 * @notifier_lock: Protects the sequence number of @notifier.  What was found
 *                 valid stays so while it is held.
 */
struct vsvm_vm {
	struct kref ref;
	struct vsvm_device *vdev;
	struct vsvm_client *client;
	struct mm_struct *mm;
	struct mmu_interval_notifier notifier;
	/* Taken by mmu notifiers. */
	spinlock_t notifier_lock;
};

static inline struct vsvm_device *to_vsvm(struct drm_device *drm)
{
	return container_of(drm, struct vsvm_device, drm);
}

static inline struct vsvm_device *
vsvm_from_dpagemap(struct drm_pagemap *dpagemap)
{
	return container_of(dpagemap, struct vsvm_device, dpagemap);
}

static inline struct vsvm_device *vsvm_from_page(const struct page *page)
{
	return vsvm_from_dpagemap(drm_pagemap_page_to_region(page)->dpagemap);
}

/* vsvm_drv.c */
void *vsvm_owner(void);
bool vsvm_peers_reachable(void);
void vsvm_client_get(struct vsvm_client *client);
void vsvm_client_put(struct vsvm_client *client);

/* vsvm_mem.c */
int vsvm_mem_init(struct vsvm_device *vdev, u64 size);
unsigned long vsvm_mem_chunk(struct vsvm_device *vdev);
u64 vsvm_mem_used(struct vsvm_device *vdev);
int vsvm_mem_populate(struct vsvm_device *vdev, struct vsvm_populate *pop);
void vsvm_mem_stats(struct vsvm_device *vdev, struct vsvm_client *client,
		    struct drm_memory_stats *stats);
void vsvm_mem_print(struct vsvm_device *vdev, struct drm_printer *p);

/* vsvm_vm.c */
void vsvm_vm_destroy_all(struct vsvm_client *client);
int vsvm_vm_create_ioctl(struct drm_device *drm, void *data,
			 struct drm_file *file);
int vsvm_vm_destroy_ioctl(struct drm_device *drm, void *data,
			  struct drm_file *file);
int vsvm_prefetch_ioctl(struct drm_device *drm, void *data,
			struct drm_file *file);
int vsvm_residency_ioctl(struct drm_device *drm, void *data,
			 struct drm_file *file);

#endif
