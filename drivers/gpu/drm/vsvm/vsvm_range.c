// SPDX-License-Identifier: GPL-2.0-only
/*
 * Ranges: the memory of a process that the GPU has mapped, mirrored by GPU SVM,
 * and the advice of user space on how to treat it.
 *
 * Ranges go when the process unmaps them, or when user space advises something
 * else.  Neither can be done on the spot, in an mmu notifier or beside the
 * worker that uses them: they become garbage, which the worker collects.
 *
 * A piece of advice is so small that the maple tree stores it in place of a
 * pointer: nothing is allocated for it, and nothing has to be freed.
 */

#include <linux/bitfield.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/xarray.h>

#include <drm/drm_print.h>
#include <uapi/drm/vsvm_drm.h>

#include "vsvm_drv.h"
#include "vsvm_trace.h"

/* Part of the address space that one mmu notifier watches, in bytes. */
#define VSVM_NOTIFIER_SIZE	SZ_512M

#define VSVM_ADVICE_ADVICE	GENMASK(3, 0)
#define VSVM_ADVICE_TIMESLICE	GENMASK(19, 4)
#define VSVM_ADVICE_WINDOW	GENMASK(39, 20)		/* in pages */

static_assert(!(VSVM_MAX_TIMESLICE_MS >> 16));
static_assert(!(VSVM_MAX_CHUNK >> PAGE_SHIFT >> 20));

/*
 * Ranges.
 */

static struct vsvm_vm *to_vsvm_vm(struct drm_gpusvm *gpusvm)
{
	return container_of(gpusvm, struct vsvm_vm, gpusvm);
}

/*
 * Have a range removed.  It stays until the worker collects it.  Called with the
 * SVM lock held, or in an mmu notifier.
 */
static void vsvm_range_add_garbage(struct vsvm_vm *vm, struct vsvm_range *range)
{
	spin_lock(&vm->garbage_lock);
	if (list_empty(&range->garbage_link))
		list_add_tail(&range->garbage_link, &vm->garbage);
	spin_unlock(&vm->garbage_lock);

	vsvm_client_kick(vm);
}

static struct vsvm_range *vsvm_range_pop_garbage(struct vsvm_vm *vm)
{
	struct vsvm_range *range;

	spin_lock(&vm->garbage_lock);
	range = list_first_entry_or_null(&vm->garbage, struct vsvm_range,
					 garbage_link);
	if (range)
		list_del_init(&range->garbage_link);
	spin_unlock(&vm->garbage_lock);
	return range;
}

/**
 * vsvm_range_remove() - Unmap and forget a range
 * @vm: The VM.
 * @range: The range.
 *
 * Its memory stays where it is, also that on the device: what the process has
 * left of it is found there when a new range is made.
 *
 * Context: Worker of the VM, the SVM lock is held.
 */
void vsvm_range_remove(struct vsvm_vm *vm, struct vsvm_range *range)
{
	unsigned long start = drm_gpusvm_range_start(&range->base);
	unsigned long end = drm_gpusvm_range_end(&range->base);

	lockdep_assert_held(&vm->svm_lock);

	drm_gpusvm_notifier_lock(&vm->gpusvm);
	vsvm_pt_zap(vm, start, end);
	vsvm_pt_prune(vm, start, end);
	drm_gpusvm_notifier_unlock(&vm->gpusvm);

	drm_gpusvm_range_remove(&vm->gpusvm, &range->base);
}

/**
 * vsvm_range_collect_locked() - Remove the ranges that are to be removed
 * @vm: The VM.
 *
 * These include the oldest, if there would be too many with one more.
 *
 * Context: Worker of the VM, the SVM lock is held.
 */
void vsvm_range_collect_locked(struct vsvm_vm *vm)
{
	struct vsvm_range *range;

	lockdep_assert_held(&vm->svm_lock);

	while ((range = vsvm_range_pop_garbage(vm)))
		vsvm_range_remove(vm, range);

	while (vm->num_ranges >= VSVM_MAX_RANGES)
		vsvm_range_remove(vm, list_first_entry(&vm->ranges,
						       struct vsvm_range,
						       link));
}

/**
 * vsvm_range_collect() - Remove the ranges that are to be removed, if any
 * @vm: The VM.
 *
 * Context: Worker of the VM.  Takes the SVM lock.
 */
void vsvm_range_collect(struct vsvm_vm *vm)
{
	if (list_empty_careful(&vm->garbage))
		return;

	mutex_lock(&vm->svm_lock);
	vsvm_range_collect_locked(vm);
	mutex_unlock(&vm->svm_lock);
}

/*
 * Callbacks of GPU SVM.
 */

static struct drm_gpusvm_range *vsvm_range_alloc(struct drm_gpusvm *gpusvm)
{
	struct vsvm_vm *vm = to_vsvm_vm(gpusvm);
	struct vsvm_range *range;

	lockdep_assert_held(&vm->svm_lock);

	range = kzalloc(sizeof(*range), GFP_KERNEL_ACCOUNT);
	if (!range)
		return NULL;

	INIT_LIST_HEAD(&range->garbage_link);
	list_add_tail(&range->link, &vm->ranges);
	vm->num_ranges++;
	return &range->base;
}

static void vsvm_range_free(struct drm_gpusvm_range *base)
{
	struct vsvm_range *range = to_vsvm_range(base);
	struct vsvm_vm *vm = to_vsvm_vm(base->gpusvm);

	lockdep_assert_held(&vm->svm_lock);

	/* Until it was removed, an mmu notifier may have put it on the list. */
	spin_lock(&vm->garbage_lock);
	list_del(&range->garbage_link);
	spin_unlock(&vm->garbage_lock);

	list_del(&range->link);
	vm->num_ranges--;
	kfree(range);
}

/* The GPU is not accessing anything: it holds the notifier lock while it does. */
static void vsvm_range_invalidate(struct drm_gpusvm *gpusvm,
				  struct drm_gpusvm_notifier *notifier,
				  const struct mmu_notifier_range *mmu_range)
{
	struct drm_gpusvm_ctx ctx = { .in_notifier = true };
	struct vsvm_vm *vm = to_vsvm_vm(gpusvm);
	struct drm_gpusvm_range *range = NULL;
	unsigned long start, end;

	lockdep_assert_held_write(&gpusvm->notifier_lock);

	start = max(mmu_range->start, drm_gpusvm_notifier_start(notifier));
	end = min(mmu_range->end, drm_gpusvm_notifier_end(notifier));
	trace_vsvm_invalidate(vm, start, end, mmu_range->event);

	drm_gpusvm_for_each_range(range, notifier, start, end) {
		vsvm_pt_zap(vm, drm_gpusvm_range_start(range),
			    drm_gpusvm_range_end(range));
		drm_gpusvm_range_unmap_pages(gpusvm, range, &ctx);
		if (mmu_range->event == MMU_NOTIFY_UNMAP) {
			drm_gpusvm_range_set_unmapped(range, mmu_range);
			vsvm_range_add_garbage(vm, to_vsvm_range(range));
		}
	}
}

static const struct drm_gpusvm_ops vsvm_gpusvm_ops = {
	.range_alloc = vsvm_range_alloc,
	.range_free = vsvm_range_free,
	.invalidate = vsvm_range_invalidate,
};

/* The sizes of ranges: descending, and none twice. */
static int vsvm_range_init_chunks(struct vsvm_vm *vm)
{
	int n = 0;

	vm->chunk_sizes[n++] = vsvm_mem_chunk(vm->vdev);
	if (vm->chunk_sizes[0] > SZ_64K && SZ_64K > PAGE_SIZE)
		vm->chunk_sizes[n++] = SZ_64K;
	if (vm->chunk_sizes[n - 1] > PAGE_SIZE)
		vm->chunk_sizes[n++] = PAGE_SIZE;
	return n;
}

/**
 * vsvm_range_init() - Set up the ranges of a VM
 * @vm: The VM, with the device, the address space and the SVM lock.
 *
 * Return: 0 or a negative errno.
 */
int vsvm_range_init(struct vsvm_vm *vm)
{
	int ret;

	spin_lock_init(&vm->garbage_lock);
	INIT_LIST_HEAD(&vm->ranges);
	INIT_LIST_HEAD(&vm->garbage);
	/*
	 * Or else the nodes are not charged, whatever flags the store is given.
	 */
	xa_init_flags(&vm->leaves, XA_FLAGS_ACCOUNT);
	mt_init_flags(&vm->advice, MT_FLAGS_LOCK_EXTERN);
	mt_set_external_lock(&vm->advice, &vm->svm_lock);

	ret = drm_gpusvm_init(&vm->gpusvm, "vsvm", &vm->vdev->drm, vm->mm,
			      vsvm_owner(), 0, vm->mm->task_size,
			      VSVM_NOTIFIER_SIZE, &vsvm_gpusvm_ops,
			      vm->chunk_sizes, vsvm_range_init_chunks(vm));
	if (ret)
		return ret;

	drm_gpusvm_driver_set_lock(&vm->gpusvm, &vm->svm_lock);

	/* Tell lockdep the order, before the first page fault does. */
	mutex_lock(&vm->svm_lock);
	might_lock_read(&vm->mm->mmap_lock);
	mutex_unlock(&vm->svm_lock);
	return 0;
}

/**
 * vsvm_range_fini() - Undo all mappings of a VM
 * @vm: The VM, whose jobs have ended.
 *
 * Context: Takes the SVM lock.
 */
void vsvm_range_fini(struct vsvm_vm *vm)
{
	mutex_lock(&vm->svm_lock);
	drm_gpusvm_fini(&vm->gpusvm);
	vsvm_pt_fini(vm);
	mutex_unlock(&vm->svm_lock);
}

/**
 * vsvm_range_print() - Print the ranges of a VM, and how they are mapped
 * @vm: The VM.
 * @p: Where to.
 *
 * Context: Takes the SVM lock, unless the caller is killed.
 */
void vsvm_range_print(struct vsvm_vm *vm, struct drm_printer *p)
{
	struct drm_gpusvm_range_flags flags;
	struct vsvm_range *range;

	if (mutex_lock_killable(&vm->svm_lock))
		return;
	drm_printf(p, "  large translations: %u\n", vsvm_pt_count_large(vm));
	list_for_each_entry(range, &vm->ranges, link) {
		flags.__flags = READ_ONCE(range->base.flags.__flags);
		drm_printf(p, "  %#lx-%#lx%s%s%s\n",
			   drm_gpusvm_range_start(&range->base),
			   drm_gpusvm_range_end(&range->base),
			   flags.has_dma_mapping ? " mapped" : "",
			   flags.has_devmem_pages ? " device" : "",
			   flags.unmapped ? " unmapped" : "");
	}
	mutex_unlock(&vm->svm_lock);
}

/*
 * Advice.
 */

static void *vsvm_advice_pack(const struct drm_vsvm_advise *args)
{
	unsigned long value;

	value = FIELD_PREP(VSVM_ADVICE_ADVICE, args->advice) |
		FIELD_PREP(VSVM_ADVICE_TIMESLICE, args->timeslice_ms) |
		FIELD_PREP(VSVM_ADVICE_WINDOW, args->fault_window >> PAGE_SHIFT);

	/* The default is not stored at all. */
	return value ? xa_mk_value(value) : NULL;
}

/**
 * vsvm_advice_lookup() - Find what was advised for an address
 * @vm: The VM.
 * @addr: The address.
 * @advice: Where to put it, and the range of addresses it holds for.
 *
 * Context: The SVM lock is held.
 */
void vsvm_advice_lookup(struct vsvm_vm *vm, unsigned long addr,
			struct vsvm_advice *advice)
{
	MA_STATE(mas, &vm->advice, addr >> PAGE_SHIFT, addr >> PAGE_SHIFT);
	unsigned long value, last = (vm->mm->task_size - 1) >> PAGE_SHIFT;
	void *entry;

	lockdep_assert_held(&vm->svm_lock);

	entry = mas_walk(&mas);

	value = entry ? xa_to_value(entry) : 0;
	advice->advice = FIELD_GET(VSVM_ADVICE_ADVICE, value);
	advice->timeslice_ms = FIELD_GET(VSVM_ADVICE_TIMESLICE, value);
	advice->fault_window = FIELD_GET(VSVM_ADVICE_WINDOW, value) << PAGE_SHIFT;
	advice->start = mas.index << PAGE_SHIFT;
	advice->end = (min(mas.last, last) + 1) << PAGE_SHIFT;
}

/**
 * vsvm_advice_fini() - Forget all advice
 * @vm: The VM.
 *
 * Context: Takes the SVM lock.
 */
void vsvm_advice_fini(struct vsvm_vm *vm)
{
	mutex_lock(&vm->svm_lock);
	__mt_destroy(&vm->advice);
	mutex_unlock(&vm->svm_lock);
}

/*
 * Have the ranges removed that the advice concerns: so the next access faults
 * and finds the advice, in a range that lies within.
 */
static void vsvm_advice_apply(struct vsvm_vm *vm, u64 start, u64 end)
{
	struct vsvm_range *range;

	lockdep_assert_held(&vm->svm_lock);

	list_for_each_entry(range, &vm->ranges, link)
		if (drm_gpusvm_range_start(&range->base) < end &&
		    drm_gpusvm_range_end(&range->base) > start)
			vsvm_range_add_garbage(vm, range);
}

/*
 * Number of entries that advice for the pages from @first to @last adds: it
 * replaces some, and may cut one in two.
 */
static int vsvm_advice_growth(struct vsvm_vm *vm, unsigned long first,
			      unsigned long last, void *advice)
{
	MA_STATE(mas, &vm->advice, first, first);
	int growth = advice ? 1 : 0;
	void *entry;

	mas_for_each(&mas, entry, last)
		growth += (mas.index < first) + (mas.last > last) - 1;
	return growth;
}

static int vsvm_advice_store(struct vsvm_vm *vm, unsigned long first,
			     unsigned long last, void *advice)
{
	MA_STATE(mas, &vm->advice, first, last);
	int ret, growth;

	lockdep_assert_held(&vm->svm_lock);

	growth = vsvm_advice_growth(vm, first, last, advice);
	if (growth > 0 && vm->num_advice + growth > VSVM_MAX_ADVICE)
		return -ENOSPC;

	/* A plain store allocates what it can without the caller's flags. */
	ret = mas_preallocate(&mas, advice, GFP_KERNEL_ACCOUNT);
	if (ret)
		return ret;
	mas_store_prealloc(&mas, advice);
	vm->num_advice += growth;
	return 0;
}

/**
 * vsvm_range_advise() - Store advice, and have it followed
 * @vm: The VM.
 * @args: The advice of user space, checked.
 * @end: End address, exclusive.
 *
 * Context: Takes the SVM lock.
 * Return: 0, -ENOSPC if there is too much advice, -ENOMEM or -EINTR.
 */
int vsvm_range_advise(struct vsvm_vm *vm, const struct drm_vsvm_advise *args,
		      u64 end)
{
	int ret;

	/* A page fault may have it for as long as it takes. */
	ret = mutex_lock_interruptible(&vm->svm_lock);
	if (ret)
		return ret;
	ret = vsvm_advice_store(vm, args->start >> PAGE_SHIFT,
				(end - 1) >> PAGE_SHIFT, vsvm_advice_pack(args));
	if (!ret)
		vsvm_advice_apply(vm, args->start, end);
	mutex_unlock(&vm->svm_lock);
	return ret;
}
