// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * The cost of DRM pagemap.
 *
 * Moves memory of the process that writes the name of a source, see
 * bench_sources, to debugfs drm_pagemap_bench/run to a software device and back,
 * and measures the time per page
 *
 * - through the layer;
 * - through the floor: the loop around migrate_vma_*() or migrate_device_*()
 *   that a driver without the layer contains, with the same copy routine;
 * - of the copy routine alone;
 *
 * and tells how much of the memory is mapped by huge pages afterwards.
 *
 * Both sides copy by DMA address, in one go for all pages, as a driver for real
 * hardware does.  Times are medians.  They mean most where a nanosecond is an
 * instruction: qemu-system-x86_64 -smp 1 -icount shift=0.
 */

#include <linux/completion.h>
#include <linux/debugfs.h>
#include <linux/dma-direct.h>
#include <linux/dma-mapping.h>
#include <linux/highmem.h>
#include <linux/ktime.h>
#include <linux/memremap.h>
#include <linux/migrate.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/platform_device.h>
#include <linux/sched/mm.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include <drm/drm_device.h>
#include <drm/drm_drv.h>
#include <drm/drm_pagemap.h>

#define BENCH_MAX_SIZE		SZ_8M
#define BENCH_MAX_ROUNDS	63U

static unsigned int rounds = 9;
module_param(rounds, uint, 0600);
MODULE_PARM_DESC(rounds, "Measured rounds, of which the median is reported (default 9)");

static unsigned int warmup = 2;
module_param(warmup, uint, 0600);
MODULE_PARM_DESC(warmup, "Rounds before the measured ones (default 2)");

static bool copy = true;
module_param(copy, bool, 0600);
MODULE_PARM_DESC(copy, "Copy the data; without, only the overhead remains (default yes)");

enum bench_op {
	BENCH_TO_DEVICE,
	BENCH_CPU_FAULT,
	BENCH_EVICT,
	BENCH_MUNMAP,
	BENCH_NUM_OPS,
};

static const char * const bench_op_names[] = {
	"to_device", "cpu_fault", "evict", "munmap",
};

static const unsigned long bench_sizes[] = { SZ_64K, SZ_512K, SZ_2M, SZ_8M };

/*
 * Memory in folios of that size, for which transparent_hugepage/ in sysfs has to
 * be set; or memory that was never touched.
 */
struct bench_source {
	const char *name;
	unsigned long folio;
};

static const struct bench_source bench_sources[] = {
	{ "base", PAGE_SIZE },
	{ "64K", SZ_64K },
	{ "2M", SZ_2M },
	{ "untouched", 0 },
};

/* What a round has measured. */
struct bench_sample {
	u64 ns[BENCH_NUM_OPS];
	/* Bytes mapped by huge pages afterwards */
	unsigned long huge[BENCH_NUM_OPS];
};

struct bench_result {
	u64 layer, floor, copy;
	unsigned long huge;
};

/* Device-private pages, backed by ordinary pages one to one */
struct bench_pool {
	struct dev_pagemap pgmap;
	struct drm_pagemap dpagemap;
	unsigned long first_pfn;
};

/* An allocation as the floor knows it: the number of pages on the device */
struct bench_floor_bo {
	atomic_t resident;
	struct completion detached;
	unsigned long first_pfn;
	unsigned long npages;
	unsigned long start;
};

struct bench {
	struct drm_device drm;
	struct platform_device *pdev;
	struct dentry *debugfs;
	struct page **backing;
	struct bench_pool layer;
	struct bench_pool floor;
	/* Protects everything below, and the pools' pages */
	struct mutex lock;
	struct drm_pagemap_devmem devmem;
	struct completion released;
	struct bench_floor_bo bo;
	const struct bench_source *source;
	u64 samples[2][BENCH_NUM_OPS][BENCH_MAX_ROUNDS];
	u64 copies[BENCH_MAX_ROUNDS];
	struct bench_result results[ARRAY_SIZE(bench_sizes)][BENCH_NUM_OPS];
	bool valid;
};

static struct bench *bench;

/*
 * The device's copy engine: @dma are addresses of RAM as the device sees it.
 */
static int bench_copy(struct bench_pool *pool, struct page **pages,
		      dma_addr_t *dma, unsigned long npages, bool to_ram)
{
	struct device *dev = &bench->pdev->dev;
	unsigned long i;

	if (!copy)
		return 0;

	for (i = 0; i < npages; i++) {
		unsigned long index = page_to_pfn(pages[i]) - pool->first_pfn;
		void *vram = page_address(bench->backing[index]);
		void *ram = phys_to_virt(dma_to_phys(dev, dma[i]));

		/* Without contents: the device's memory is cleared already. */
		if (!dma[i])
			continue;
		if (to_ram)
			memcpy(ram, vram, PAGE_SIZE);
		else
			memcpy(vram, ram, PAGE_SIZE);
	}

	return 0;
}

/*
 * The layer's side: a minimal driver
 */

static void bench_devmem_release(struct drm_pagemap_devmem *devmem)
{
	complete(&bench->released);
}

static int bench_devmem_populate(struct drm_pagemap_devmem *devmem,
				 unsigned long npages, unsigned long *pfn)
{
	unsigned long i;

	for (i = 0; i < npages; i++)
		pfn[i] = bench->layer.first_pfn + i;

	return 0;
}

static int bench_devmem_copy_to_devmem(struct page **pages, dma_addr_t *dma,
				       unsigned long npages)
{
	return bench_copy(&bench->layer, pages, dma, npages, false);
}

static int bench_devmem_copy_to_ram(struct page **pages, dma_addr_t *dma,
				    unsigned long npages)
{
	return bench_copy(&bench->layer, pages, dma, npages, true);
}

static const struct drm_pagemap_devmem_ops bench_devmem_ops = {
	.devmem_release = bench_devmem_release,
	.populate_devmem_pfn = bench_devmem_populate,
	.copy_to_devmem = bench_devmem_copy_to_devmem,
	.copy_to_ram = bench_devmem_copy_to_ram,
};

static int bench_layer_to_device(unsigned long start, unsigned long size)
{
	int ret;

	reinit_completion(&bench->released);
	drm_pagemap_devmem_init(&bench->devmem, &bench->pdev->dev, current->mm,
				&bench_devmem_ops, &bench->layer.dpagemap, size);
	if (!bench->source->folio)
		bench->devmem.flags = DRM_PAGEMAP_DEVMEM_CLEARED;
	mmap_read_lock(current->mm);
	ret = drm_pagemap_migrate_to_devmem(&bench->devmem, current->mm, start,
					    start + size, 0, bench);
	mmap_read_unlock(current->mm);

	return ret;
}

static int bench_layer_evict(void)
{
	return drm_pagemap_evict_to_ram(&bench->devmem);
}

static int bench_layer_wait(void)
{
	if (!wait_for_completion_timeout(&bench->released, 10 * HZ))
		return -ETIMEDOUT;

	return 0;
}

/*
 * The floor: what a driver contains that does the same by itself
 */

struct bench_scratch {
	unsigned long *src;
	unsigned long *dst;
	dma_addr_t *dma;
	struct page **pages;
	unsigned long npages;
};

static int bench_scratch_alloc(struct bench_scratch *s, unsigned long npages)
{
	s->src = kvcalloc(npages, sizeof(*s->src) + sizeof(*s->dst) +
			  sizeof(*s->dma) + sizeof(*s->pages), GFP_KERNEL);
	if (!s->src)
		return -ENOMEM;

	s->dst = s->src + npages;
	s->dma = (dma_addr_t *)(s->dst + npages);
	s->pages = (struct page **)(s->dma + npages);
	s->npages = 0;

	return 0;
}

static int bench_floor_map(struct bench_scratch *s, struct page *device_page,
			   struct page *ram, enum dma_data_direction dir)
{
	struct device *dev = &bench->pdev->dev;
	dma_addr_t dma = dma_map_page(dev, ram, 0, PAGE_SIZE, dir);

	if (dma_mapping_error(dev, dma))
		return -EFAULT;

	s->pages[s->npages] = device_page;
	s->dma[s->npages++] = dma;

	return 0;
}

static void bench_floor_unmap(struct bench_scratch *s, enum dma_data_direction dir)
{
	unsigned long i;

	for (i = 0; i < s->npages; i++)
		dma_unmap_page(&bench->pdev->dev, s->dma[i], PAGE_SIZE, dir);
}

/* Gives back what was made for a migration that fails. */
static void bench_floor_put_dst(unsigned long *dst, unsigned long npages)
{
	unsigned long i;

	for (i = 0; i < npages; i++) {
		struct page *page = migrate_pfn_to_page(dst[i]);

		if (page) {
			unlock_page(page);
			put_page(page);
		}
		dst[i] = 0;
	}
}

static int bench_floor_fill_devmem(struct bench_scratch *s, unsigned long npages,
				   struct bench_floor_bo *bo)
{
	unsigned long i;
	int ret;

	for (i = 0; i < npages; i++) {
		struct page *src = migrate_pfn_to_page(s->src[i]), *page;

		if (!(s->src[i] & MIGRATE_PFN_MIGRATE))
			continue;

		page = pfn_to_page(bo->first_pfn + i);
		page->zone_device_data = bo;
		atomic_inc(&bo->resident);
		zone_device_page_init(page);
		s->dst[i] = migrate_pfn(page_to_pfn(page));
		/* The device's memory is cleared already. */
		if (!src)
			continue;
		ret = bench_floor_map(s, page, src, DMA_TO_DEVICE);
		if (ret)
			return ret;
	}

	return 0;
}

static int bench_floor_migrate_to_device(struct bench_floor_bo *bo)
{
	struct migrate_vma args = {
		.start = bo->start,
		.end = bo->start + bo->npages * PAGE_SIZE,
		.pgmap_owner = &bench->floor,
		.flags = MIGRATE_VMA_SELECT_SYSTEM,
	};
	struct bench_scratch s;
	int ret;

	args.vma = vma_lookup(current->mm, bo->start);
	if (!args.vma || args.end > args.vma->vm_end)
		return -EINVAL;

	ret = bench_scratch_alloc(&s, bo->npages);
	if (ret)
		return ret;

	args.src = s.src;
	args.dst = s.dst;
	ret = migrate_vma_setup(&args);
	if (ret || !args.cpages)
		goto out_free;

	ret = bench_floor_fill_devmem(&s, args.npages, bo);
	if (!ret)
		ret = bench_copy(&bench->floor, s.pages, s.dma, s.npages, false);
	bench_floor_unmap(&s, DMA_TO_DEVICE);
	if (ret)
		bench_floor_put_dst(s.dst, args.npages);
	migrate_vma_pages(&args);
	migrate_vma_finalize(&args);

out_free:
	kvfree(s.src);
	return ret;
}

static int bench_floor_to_device(unsigned long start, unsigned long size)
{
	struct bench_floor_bo *bo = &bench->bo;
	int ret;

	atomic_set(&bo->resident, 0);
	reinit_completion(&bo->detached);
	bo->first_pfn = bench->floor.first_pfn;
	bo->npages = size >> PAGE_SHIFT;
	bo->start = start;
	mmap_read_lock(current->mm);
	ret = bench_floor_migrate_to_device(bo);
	mmap_read_unlock(current->mm);

	return ret ?: atomic_read(&bo->resident) == bo->npages ? 0 : -EBUSY;
}

/* @vma is NULL for eviction, which knows nothing of address spaces. */
static int bench_floor_fill_ram(struct bench_scratch *s, unsigned long npages,
				struct vm_area_struct *vma, unsigned long addr)
{
	unsigned long i;
	int ret;

	for (i = 0; i < npages; i++, addr += PAGE_SIZE) {
		struct page *src = migrate_pfn_to_page(s->src[i]), *page;

		if (!src || !(s->src[i] & MIGRATE_PFN_MIGRATE))
			continue;

		if (vma)
			page = alloc_page_vma(GFP_HIGHUSER_MOVABLE, vma, addr);
		else
			page = alloc_page(GFP_HIGHUSER_MOVABLE);
		if (!page)
			return -ENOMEM;

		lock_page(page);
		s->dst[i] = migrate_pfn(page_to_pfn(page));
		ret = bench_floor_map(s, src, page, DMA_FROM_DEVICE);
		if (ret)
			return ret;
	}

	return 0;
}

static int bench_floor_copy_ram(struct bench_scratch *s, unsigned long npages,
				struct vm_area_struct *vma, unsigned long addr)
{
	int ret;

	ret = bench_floor_fill_ram(s, npages, vma, addr);
	if (!ret)
		ret = bench_copy(&bench->floor, s->pages, s->dma, s->npages, true);
	bench_floor_unmap(s, DMA_FROM_DEVICE);
	if (ret)
		bench_floor_put_dst(s->dst, npages);

	return ret;
}

static vm_fault_t bench_floor_migrate_to_ram(struct vm_fault *vmf)
{
	struct bench_floor_bo *bo = vmf->page->zone_device_data;
	struct migrate_vma args = {
		.vma = vmf->vma,
		.start = max(bo->start, vmf->vma->vm_start),
		.end = min(bo->start + bo->npages * PAGE_SIZE, vmf->vma->vm_end),
		.pgmap_owner = &bench->floor,
		.flags = MIGRATE_VMA_SELECT_DEVICE_PRIVATE,
		.fault_page = vmf->page,
	};
	struct bench_scratch s;
	vm_fault_t fault = 0;
	int ret;

	if (bench_scratch_alloc(&s, (args.end - args.start) >> PAGE_SHIFT))
		return VM_FAULT_OOM;

	args.src = s.src;
	args.dst = s.dst;
	if (migrate_vma_setup(&args)) {
		fault = VM_FAULT_SIGBUS;
		goto out_free;
	}
	if (!args.cpages)
		goto out_free;

	ret = bench_floor_copy_ram(&s, args.npages, args.vma, args.start);
	if (ret)
		fault = ret == -ENOMEM ? VM_FAULT_OOM : VM_FAULT_SIGBUS;
	migrate_vma_pages(&args);
	migrate_vma_finalize(&args);

out_free:
	kvfree(s.src);
	return fault;
}

static void bench_floor_page_free(struct page *page)
{
	struct bench_floor_bo *bo = page->zone_device_data;

	if (atomic_dec_and_test(&bo->resident))
		complete_all(&bo->detached);
}

static const struct dev_pagemap_ops bench_floor_ops = {
	.page_free = bench_floor_page_free,
	.migrate_to_ram = bench_floor_migrate_to_ram,
};

static int bench_floor_evict(void)
{
	struct bench_floor_bo *bo = &bench->bo;
	struct bench_scratch s;
	int ret;

	ret = bench_scratch_alloc(&s, bo->npages);
	if (ret)
		return ret;

	ret = migrate_device_range(s.src, bo->first_pfn, bo->npages);
	if (!ret) {
		ret = bench_floor_copy_ram(&s, bo->npages, NULL, 0);
		migrate_device_pages(s.src, s.dst, bo->npages);
		migrate_device_finalize(s.src, s.dst, bo->npages);
	}
	kvfree(s.src);

	return ret ?: completion_done(&bo->detached) ? 0 : -EBUSY;
}

static int bench_floor_wait(void)
{
	if (!wait_for_completion_timeout(&bench->bo.detached, 10 * HZ))
		return -ETIMEDOUT;

	return 0;
}

/*
 * Measurement
 */

struct bench_side {
	int (*to_device)(unsigned long start, unsigned long size);
	int (*evict)(void);
	int (*wait)(void);
};

static const struct bench_side bench_sides[] = {
	{ bench_layer_to_device, bench_layer_evict, bench_layer_wait },
	{ bench_floor_to_device, bench_floor_evict, bench_floor_wait },
};

static u64 bench_word(unsigned long addr, unsigned int round)
{
	if (!bench->source->folio)
		return 0;

	return (u64)addr * 0x9e3779b97f4a7c15ULL + round;
}

/* Every page gets contents of its own, at both ends and in the middle. */
static int bench_fill(unsigned long start, unsigned long size, unsigned int round)
{
	unsigned long addr, i;

	/* Instead, the device's memory comes cleared. */
	if (!bench->source->folio) {
		for (i = 0; i < size >> PAGE_SHIFT; i++)
			clear_page(page_address(bench->backing[i]));
		return 0;
	}

	for (addr = start; addr < start + size; addr += PAGE_SIZE / 2) {
		unsigned long last = addr + PAGE_SIZE / 2 - sizeof(u64);

		if (put_user(bench_word(addr, round), (u64 __user *)addr) ||
		    put_user(bench_word(last, round), (u64 __user *)last))
			return -EFAULT;
	}

	return 0;
}

static int bench_verify(unsigned long start, unsigned long size, unsigned int round)
{
	unsigned long addr;
	u64 first, end;

	if (!copy)
		return 0;

	for (addr = start; addr < start + size; addr += PAGE_SIZE / 2) {
		unsigned long last = addr + PAGE_SIZE / 2 - sizeof(u64);

		if (get_user(first, (u64 __user *)addr) ||
		    get_user(end, (u64 __user *)last))
			return -EFAULT;
		if (first != bench_word(addr, round) ||
		    end != bench_word(last, round))
			return -EILSEQ;
	}

	return 0;
}

/* Size of the folio at @addr, or of its mapping if that is all of it. */
static long bench_folio_size(unsigned long addr, bool mapping)
{
	struct folio *folio;
	struct page *page;
	long size;

	if (get_user_pages_fast(addr, 1, 0, &page) != 1)
		return -EFAULT;

	folio = page_folio(page);
	size = folio_size(folio);
	if (mapping && (size < PMD_SIZE || !folio_entire_mapcount(folio)))
		size = PAGE_SIZE;
	folio_put(folio);

	return size;
}

/* The memory must be what is to be measured. */
static int bench_check_source(unsigned long start, unsigned long size)
{
	unsigned long folio = bench->source->folio, addr;

	/* To look at others changes nothing, but nor is there anything to see. */
	if (folio <= PAGE_SIZE)
		return 0;

	for (addr = start; addr < start + size; addr += folio)
		if (bench_folio_size(addr, false) != folio)
			return -ENODATA;

	return 0;
}

static unsigned long bench_huge(unsigned long start, unsigned long size)
{
	unsigned long addr, huge = 0;

	for (addr = start; addr + SZ_2M <= start + size; addr += SZ_2M)
		if (bench_folio_size(addr, true) == SZ_2M)
			huge += SZ_2M;

	return huge;
}

static int bench_cpu_fault(unsigned long addr)
{
	return fault_in_readable((char __user *)addr, 1) ? -EFAULT : 0;
}

static int bench_measure(const struct bench_side *side, unsigned long start,
			 unsigned long size, struct bench_sample *sample)
{
	u64 t[4];
	int ret;

	t[0] = ktime_get_ns();
	ret = side->to_device(start, size);
	t[1] = ktime_get_ns();
	if (ret)
		return ret;
	sample->ns[BENCH_TO_DEVICE] = t[1] - t[0];

	/* One byte brings the whole allocation back */
	t[0] = ktime_get_ns();
	ret = bench_cpu_fault(start);
	t[1] = ktime_get_ns();
	ret = ret ?: side->wait();
	if (ret)
		return ret;
	sample->ns[BENCH_CPU_FAULT] = t[1] - t[0];
	sample->huge[BENCH_CPU_FAULT] = bench_huge(start, size);

	ret = side->to_device(start, size);
	if (ret)
		return ret;
	t[2] = ktime_get_ns();
	ret = side->evict();
	t[3] = ktime_get_ns();
	ret = ret ?: side->wait();
	if (ret)
		return ret;
	sample->ns[BENCH_EVICT] = t[3] - t[2];
	sample->huge[BENCH_EVICT] = bench_huge(start, size);

	return 0;
}

static int bench_measure_munmap(const struct bench_side *side,
				unsigned long start, unsigned long size,
				struct bench_sample *sample)
{
	u64 t[2];
	int ret;

	ret = side->to_device(start, size);
	if (ret)
		return ret;

	t[0] = ktime_get_ns();
	ret = vm_munmap(start, size);
	t[1] = ktime_get_ns();
	sample->ns[BENCH_MUNMAP] = t[1] - t[0];

	return ret ?: side->wait();
}

/* Aligned, so that all rounds have the same page tables. */
static unsigned long bench_mmap(unsigned long size)
{
	unsigned long addr, start;
	struct vm_area_struct *vma;

	addr = vm_mmap(NULL, 0, size + SZ_2M, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, 0);
	if (IS_ERR_VALUE(addr))
		return addr;

	start = ALIGN(addr, SZ_2M);
	if (start > addr)
		vm_munmap(addr, start - addr);
	vm_munmap(start + size, addr + SZ_2M - start);

	mmap_write_lock(current->mm);
	vma = vma_lookup(current->mm, start);
	if (vma && bench->source->folio > PAGE_SIZE)
		vm_flags_set(vma, VM_HUGEPAGE);
	mmap_write_unlock(current->mm);

	return start;
}

static int bench_round(const struct bench_side *side, unsigned long size,
		       unsigned int round, struct bench_sample *sample)
{
	unsigned long start = bench_mmap(size);
	int ret;

	if (IS_ERR_VALUE(start))
		return (int)start;

	ret = bench_fill(start, size, round) ?:
	      bench_check_source(start, size) ?:
	      bench_measure(side, start, size, sample) ?:
	      bench_verify(start, size, round);
	vm_munmap(start, size);
	cond_resched();

	return ret;
}

/* Apart from the others, which find free pages in another state after it. */
static int bench_round_munmap(const struct bench_side *side, unsigned long size,
			      unsigned int round, struct bench_sample *sample)
{
	unsigned long start = bench_mmap(size);
	int ret;

	if (IS_ERR_VALUE(start))
		return (int)start;

	ret = bench_fill(start, size, round) ?:
	      bench_measure_munmap(side, start, size, sample);
	if (ret)
		vm_munmap(start, size);
	cond_resched();

	return ret;
}

/* The copy routine on pages that are there already */
static int bench_copy_alone(unsigned long size, bool to_ram, u64 *ns)
{
	unsigned long npages = size >> PAGE_SHIFT, i;
	struct bench_scratch s;
	struct page *page;
	int ret;

	ret = bench_scratch_alloc(&s, npages);
	if (ret)
		return ret;

	for (i = 0; i < npages && !ret; i++) {
		page = alloc_page(GFP_HIGHUSER_MOVABLE);
		s.src[i] = (unsigned long)page;
		if (!page)
			ret = -ENOMEM;
		else
			ret = bench_floor_map(&s, pfn_to_page(bench->floor.first_pfn + i),
					      page, DMA_BIDIRECTIONAL);
	}
	*ns = ktime_get_ns();
	if (!ret)
		ret = bench_copy(&bench->floor, s.pages, s.dma, npages, to_ram);
	*ns = ktime_get_ns() - *ns;

	bench_floor_unmap(&s, DMA_BIDIRECTIONAL);
	while (i--)
		if (s.src[i])
			__free_page((struct page *)s.src[i]);
	kvfree(s.src);

	return ret;
}

static int bench_cmp(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

static u64 bench_median(u64 *samples, unsigned int n)
{
	sort(samples, n, sizeof(*samples), bench_cmp, NULL);

	return samples[n / 2];
}

static int bench_copy_cost(unsigned long size, enum bench_op op, unsigned int n,
			   u64 *cost)
{
	u64 *copies = bench->copies;
	unsigned int i;
	int ret;

	*cost = 0;
	if (op == BENCH_MUNMAP ||
	    (op == BENCH_TO_DEVICE && !bench->source->folio))
		return 0;

	for (i = 0; i < n; i++) {
		ret = bench_copy_alone(size, op != BENCH_TO_DEVICE, &copies[i]);
		if (ret)
			return ret;
	}
	*cost = bench_median(copies, n);

	return 0;
}

/* Measure the operations from @first to @end, exclusive. */
static int bench_rounds(unsigned long size, unsigned int n,
			int (*round)(const struct bench_side *side,
				     unsigned long size, unsigned int round,
				     struct bench_sample *sample),
			enum bench_op first, enum bench_op end,
			struct bench_result *results)
{
	struct bench_sample sample = {};
	unsigned int i, k, side;
	enum bench_op op;
	int ret;

	/*
	 * In turn, and each first in every other round, so that both find the
	 * same state of the page allocator.
	 */
	for (i = 0; i < warmup + n; i++) {
		for (k = 0; k < ARRAY_SIZE(bench_sides); k++) {
			side = (i + k) % ARRAY_SIZE(bench_sides);
			ret = round(&bench_sides[side], size, i, &sample);
			if (ret)
				return ret;
			for (op = first; op < end && i >= warmup; op++) {
				bench->samples[side][op][i - warmup] = sample.ns[op];
				if (!side)
					results[op].huge = sample.huge[op];
			}
		}
		if (fatal_signal_pending(current))
			return -EINTR;
	}

	return 0;
}

static int bench_size(unsigned long size, struct bench_result *results)
{
	unsigned int n = clamp(rounds, 1U, BENCH_MAX_ROUNDS), op;
	int ret;

	ret = bench_rounds(size, n, bench_round, 0, BENCH_MUNMAP, results) ?:
	      bench_rounds(size, n, bench_round_munmap, BENCH_MUNMAP,
			   BENCH_NUM_OPS, results);
	if (ret)
		return ret;

	for (op = 0; op < BENCH_NUM_OPS; op++) {
		results[op].layer = bench_median(bench->samples[0][op], n);
		results[op].floor = bench_median(bench->samples[1][op], n);
		ret = bench_copy_cost(size, op, n, &results[op].copy);
		if (ret)
			return ret;
	}

	return 0;
}

/* Nanoseconds per page, times 100 */
static u64 bench_per_page(u64 ns, unsigned long size)
{
	return div64_ul(ns * 100, size >> PAGE_SHIFT);
}

static void bench_format(char *line, size_t len, unsigned int size_index,
			 enum bench_op op)
{
	const struct bench_result *res = &bench->results[size_index][op];
	unsigned long size = bench_sizes[size_index];
	u64 layer = bench_per_page(res->layer, size);
	u64 floor = bench_per_page(res->floor, size);
	u64 alone = bench_per_page(res->copy, size);

	snprintf(line, len,
		 "BENCH {\"op\":\"%s\",\"source\":\"%s\",\"size\":%lu,\"layer_ns\":%llu.%02llu,\"floor_ns\":%llu.%02llu,\"copy_ns\":%llu.%02llu,\"huge\":%lu}",
		 bench_op_names[op], bench->source->name, size,
		 layer / 100, layer % 100, floor / 100, floor % 100,
		 alone / 100, alone % 100, res->huge);
}

/* With folios that do not fit, there is nothing to measure. */
static bool bench_has_size(unsigned int size_index)
{
	return bench_sizes[size_index] >= bench->source->folio;
}

static int bench_run(void)
{
	unsigned int i, op;
	char line[200];
	int ret;

	lockdep_assert_held(&bench->lock);
	bench->valid = false;

	for (i = 0; i < ARRAY_SIZE(bench_sizes); i++) {
		if (!bench_has_size(i))
			continue;
		ret = bench_size(bench_sizes[i], bench->results[i]);
		if (ret) {
			pr_err("drm_pagemap_bench: size %lu failed: %pe\n",
			       bench_sizes[i], ERR_PTR(ret));
			return ret;
		}
		for (op = 0; op < BENCH_NUM_OPS; op++) {
			bench_format(line, sizeof(line), i, op);
			pr_info("%s\n", line);
		}
	}
	bench->valid = true;

	return 0;
}

/*
 * debugfs: a write runs, a read shows what the last run found
 */

static const struct bench_source *bench_find_source(const char __user *buf,
						    size_t len)
{
	char name[16] = {};
	unsigned int i;

	if (len >= sizeof(name) || copy_from_user(name, buf, len))
		return ERR_PTR(-EFAULT);

	for (i = 0; i < ARRAY_SIZE(bench_sources); i++)
		if (sysfs_streq(name, bench_sources[i].name))
			return &bench_sources[i];

	return ERR_PTR(-EINVAL);
}

static ssize_t bench_run_write(struct file *file, const char __user *buf,
			       size_t len, loff_t *pos)
{
	const struct bench_source *source;
	int ret;

	if (!current->mm)
		return -EINVAL;
	source = bench_find_source(buf, len);
	if (IS_ERR(source))
		return PTR_ERR(source);

	ret = mutex_lock_interruptible(&bench->lock);
	if (ret)
		return ret;
	bench->source = source;
	ret = bench_run();
	mutex_unlock(&bench->lock);

	return ret ?: len;
}

static int bench_run_show(struct seq_file *m, void *unused)
{
	unsigned int i, op;
	char line[200];

	mutex_lock(&bench->lock);
	for (i = 0; i < ARRAY_SIZE(bench_sizes) && bench->valid; i++) {
		if (!bench_has_size(i))
			continue;
		for (op = 0; op < BENCH_NUM_OPS; op++) {
			bench_format(line, sizeof(line), i, op);
			seq_printf(m, "%s\n", line);
		}
	}
	mutex_unlock(&bench->lock);

	return 0;
}

static int bench_run_open(struct inode *inode, struct file *file)
{
	return single_open(file, bench_run_show, NULL);
}

static const struct file_operations bench_run_fops = {
	.owner = THIS_MODULE,
	.open = bench_run_open,
	.read = seq_read,
	.write = bench_run_write,
	.llseek = seq_lseek,
	.release = single_release,
};

/*
 * Set-up
 */

static const struct drm_pagemap_ops bench_pagemap_ops = {};

static const struct drm_driver bench_drm_driver = {
	.name = "drm_pagemap_bench",
	.desc = "DRM pagemap benchmark",
	.date = "20260101",
	.major = 1,
};

static void bench_free_backing(void *arg)
{
	struct bench *b = arg;
	unsigned long i;

	for (i = 0; i < BENCH_MAX_SIZE >> PAGE_SHIFT; i++)
		if (b->backing[i])
			__free_page(b->backing[i]);
	kvfree(b->backing);
}

static int bench_alloc_backing(struct bench *b, struct device *dev)
{
	unsigned long i, npages = BENCH_MAX_SIZE >> PAGE_SHIFT;
	int ret;

	b->backing = kvcalloc(npages, sizeof(*b->backing), GFP_KERNEL);
	if (!b->backing)
		return -ENOMEM;
	ret = devm_add_action_or_reset(dev, bench_free_backing, b);
	if (ret)
		return ret;

	for (i = 0; i < npages; i++) {
		b->backing[i] = alloc_page(GFP_KERNEL | __GFP_ZERO);
		if (!b->backing[i])
			return -ENOMEM;
	}

	return 0;
}

static int bench_add_floor_pool(struct bench *b, struct device *dev)
{
	struct dev_pagemap *pgmap = &b->floor.pgmap;
	struct resource *res;
	void *addr;

	res = devm_request_free_mem_region(dev, &iomem_resource, BENCH_MAX_SIZE);
	if (IS_ERR(res))
		return PTR_ERR(res);

	pgmap->type = MEMORY_DEVICE_PRIVATE;
	pgmap->range.start = res->start;
	pgmap->range.end = res->end;
	pgmap->nr_range = 1;
	pgmap->ops = &bench_floor_ops;
	pgmap->owner = &b->floor;
	addr = devm_memremap_pages(dev, pgmap);
	if (IS_ERR(addr))
		return PTR_ERR(addr);
	b->floor.first_pfn = PHYS_PFN(res->start);

	return 0;
}

static int bench_add_layer_pool(struct bench *b, struct device *dev)
{
	struct drm_pagemap_region *region;

	b->layer.dpagemap.ops = &bench_pagemap_ops;
	b->layer.dpagemap.dev = dev;
	region = devm_drm_pagemap_region_add(&b->drm, &b->layer.dpagemap, "bench",
					     BENCH_MAX_SIZE, b);
	if (IS_ERR(region))
		return PTR_ERR(region);
	b->layer.first_pfn = region->start_pfn;

	return 0;
}

static int bench_setup(struct platform_device *pdev)
{
	struct device *dev = &pdev->dev;
	struct bench *b;
	int ret;

	b = devm_drm_dev_alloc(dev, &bench_drm_driver, struct bench, drm);
	if (IS_ERR(b))
		return PTR_ERR(b);

	b->pdev = pdev;
	b->source = bench_sources;
	mutex_init(&b->lock);
	init_completion(&b->released);
	init_completion(&b->bo.detached);
	ret = dma_coerce_mask_and_coherent(dev, DMA_BIT_MASK(64)) ?:
	      bench_alloc_backing(b, dev) ?:
	      bench_add_floor_pool(b, dev) ?:
	      bench_add_layer_pool(b, dev);
	if (!ret)
		bench = b;

	return ret;
}

static int __init bench_init(void)
{
	struct platform_device *pdev;
	int ret;

	pdev = platform_device_register_simple("drm_pagemap_bench", -1, NULL, 0);
	if (IS_ERR(pdev))
		return PTR_ERR(pdev);
	if (!devres_open_group(&pdev->dev, NULL, GFP_KERNEL)) {
		ret = -ENOMEM;
		goto err_unregister;
	}
	ret = bench_setup(pdev);
	if (ret)
		goto err_release;

	bench->debugfs = debugfs_create_dir("drm_pagemap_bench", NULL);
	debugfs_create_file("run", 0600, bench->debugfs, NULL, &bench_run_fops);

	return 0;

err_release:
	devres_release_group(&pdev->dev, NULL);
err_unregister:
	platform_device_unregister(pdev);
	return ret;
}
module_init(bench_init);

static void __exit bench_exit(void)
{
	struct platform_device *pdev = bench->pdev;

	debugfs_remove_recursive(bench->debugfs);
	devres_release_group(&pdev->dev, NULL);
	platform_device_unregister(pdev);
}
module_exit(bench_exit);

MODULE_DESCRIPTION("Benchmark of DRM pagemap against a hand-written migration");
MODULE_LICENSE("Dual MIT/GPL");
