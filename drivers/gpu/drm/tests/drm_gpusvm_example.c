// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * What a driver does with GPU SVM.  This is the example of the documentation,
 * and the driver that the tests test.
 */

#include "drm_gpusvm_mock.h"

/* START: Invalidation */
void driver_invalidate(struct drm_gpusvm *gpusvm,
		       struct drm_gpusvm_notifier *notifier,
		       const struct mmu_notifier_range *mmu_range)
{
	struct gpusvm_mock *vm = to_gpusvm_mock(gpusvm);
	struct drm_gpusvm_ctx ctx = { .in_notifier = true, };
	struct drm_gpusvm_range *range = NULL;

	/* All translations go first, so that the GPU is waited for once. */
	drm_gpusvm_for_each_range(range, notifier, mmu_range->start,
				  mmu_range->end)
		driver_zap(vm, range);
	driver_wait_for_zap(vm);

	range = NULL;
	drm_gpusvm_for_each_range(range, notifier, mmu_range->start,
				  mmu_range->end) {
		drm_gpusvm_range_unmap_pages(gpusvm, range, &ctx);
		if (mmu_range->event == MMU_NOTIFY_UNMAP) {
			drm_gpusvm_range_set_unmapped(range, mmu_range);
			driver_add_garbage(vm, range);
		}
	}
}

/* END: Invalidation */

/* START: Garbage */
void driver_collect_garbage(struct gpusvm_mock *vm)
{
	struct drm_gpusvm_range *range;

	lockdep_assert_held(&vm->lock);

	while ((range = driver_next_garbage(vm))) {
		/* Best effort: what stays is evicted with its memory. */
		if (range->flags.partial_unmap)
			drm_gpusvm_range_evict(&vm->gpusvm, range);
		drm_gpusvm_range_remove(&vm->gpusvm, range);
	}
}

/* END: Garbage */

/* START: GPU fault */
static int driver_bind_range(struct gpusvm_mock *vm,
			     struct drm_gpusvm_range *range, bool write)
{
	struct drm_gpusvm *gpusvm = &vm->gpusvm;
	int err;

	drm_gpusvm_notifier_lock(gpusvm);
	if (drm_gpusvm_range_pages_valid(gpusvm, range))
		err = driver_write_pt(vm, range, write);
	else
		err = -EAGAIN;
	drm_gpusvm_notifier_unlock(gpusvm);

	return err;
}

static int driver_try_gpu_fault(struct gpusvm_mock *vm, unsigned long addr,
				bool write)
{
	struct drm_gpusvm_ctx ctx = {
		.read_only = !write,
		.devmem_possible = true,
	};
	struct drm_gpusvm *gpusvm = &vm->gpusvm;
	struct drm_gpusvm_range *range;
	int err;

	/* Ranges that may be in the way of a new one. */
	driver_collect_garbage(vm);

	range = drm_gpusvm_range_find_or_insert(gpusvm, addr, 0, ULONG_MAX,
						&ctx);
	if (IS_ERR(range))
		return PTR_ERR(range);

	/* Should this fail, the memory is used where it is. */
	if (range->flags.migrate_devmem)
		driver_migrate(vm, range);

	err = drm_gpusvm_range_get_pages(gpusvm, range, &ctx);
	if (err == -EOPNOTSUPP)
		drm_gpusvm_range_evict(gpusvm, range);

	return err ?: driver_bind_range(vm, range, write);
}

int driver_gpu_fault(struct gpusvm_mock *vm, unsigned long addr, bool write)
{
	int err, tries = 10;

	mutex_lock(&vm->lock);
	do {
		err = driver_try_gpu_fault(vm, addr, write);
	} while (--tries && (err == -EAGAIN || err == -EOPNOTSUPP ||
			     err == -EFAULT || err == -EPERM));
	mutex_unlock(&vm->lock);

	return err;
}

/* END: GPU fault */
