// SPDX-License-Identifier: GPL-2.0-only
/*
 * What user space advises for ranges of addresses.  A piece of advice is so
 * small that the maple tree can have it in place of a pointer: nothing is
 * allocated for it, and nothing has to be freed.
 */

#include <linux/bitfield.h>
#include <linux/mm.h>
#include <linux/xarray.h>

#include <uapi/drm/vsvm_drm.h>

#include "vsvm_drv.h"

#define VSVM_ADVICE_PLACE	GENMASK(3, 0)
#define VSVM_ADVICE_TIMESLICE	GENMASK(19, 4)
#define VSVM_ADVICE_WINDOW	GENMASK(39, 20)		/* in pages */

static_assert(!(VSVM_MAX_TIMESLICE_MS >> 16));
static_assert(!(VSVM_MAX_CHUNK >> PAGE_SHIFT >> 20));

static void *vsvm_advice_pack(const struct drm_vsvm_advise *args)
{
	unsigned long value;

	value = FIELD_PREP(VSVM_ADVICE_PLACE, args->place) |
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
	advice->place = FIELD_GET(VSVM_ADVICE_PLACE, value);
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
			vsvm_vm_add_garbage(vm, range);
}

/*
 * How many pieces of advice more there are with one for the pages from @first to
 * @last: it replaces some, and may have one cut in two.
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

static int vsvm_vm_advise(struct vsvm_vm *vm,
			  const struct drm_vsvm_advise *args)
{
	u64 end;
	int ret;

	if (args->place > DRM_VSVM_PLACE_DEVICE)
		return -EINVAL;
	ret = vsvm_vm_check_limits(vm, args->timeslice_ms, args->fault_window);
	if (ret)
		return ret;
	ret = vsvm_vm_range_end(vm, args->start, args->size, &end);
	if (ret)
		return ret;

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

/**
 * vsvm_advise_ioctl() - DRM_IOCTL_VSVM_ADVISE
 * @drm: The device.
 * @data: struct drm_vsvm_advise.
 * @file: The open file.
 *
 * Return: 0 or a negative errno, see there.
 */
int vsvm_advise_ioctl(struct drm_device *drm, void *data,
		      struct drm_file *file)
{
	struct drm_vsvm_advise *args = data;
	struct vsvm_vm *vm;
	int ret;

	if (args->flags)
		return -EINVAL;

	vm = vsvm_vm_get(file, args->vm_id);
	if (IS_ERR(vm))
		return PTR_ERR(vm);

	ret = vsvm_vm_advise(vm, args);
	vsvm_vm_put(vm);
	return ret;
}
