// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * A driver's use of GPU SVM: the example of the documentation, and the driver
 * that the tests run.
 */

#include "drm_gpusvm_mock.h"

/* START: Invalidation */
void gpusvm_example_invalidate(struct drm_gpusvm *gpusvm,
			       struct drm_gpusvm_notifier *notifier,
			       const struct mmu_notifier_range *mmu_range)
{
	struct gpusvm_mock *vm = to_gpusvm_mock(gpusvm);
	struct drm_gpusvm_ctx ctx = { .in_notifier = true, };
	struct drm_gpusvm_range *range = NULL;

	/* Zap everything first: one wait for the GPU covers all ranges. */
	drm_gpusvm_for_each_range(range, notifier, mmu_range->start,
				  mmu_range->end)
		gpusvm_mock_zap_range(vm, range);
	gpusvm_mock_wait_for_zap(vm);

	range = NULL;
	drm_gpusvm_for_each_range(range, notifier, mmu_range->start,
				  mmu_range->end) {
		drm_gpusvm_range_unmap_pages(gpusvm, range, &ctx);
		if (mmu_range->event == MMU_NOTIFY_UNMAP) {
			drm_gpusvm_range_set_unmapped(range, mmu_range);
			gpusvm_mock_add_garbage(vm, range);
		}
	}
}

/* END: Invalidation */

/* START: Garbage */
void gpusvm_example_collect_garbage(struct gpusvm_mock *vm)
{
	struct drm_gpusvm_range *range;

	lockdep_assert_held(&vm->lock);

	while ((range = gpusvm_mock_next_garbage(vm))) {
		/* Best effort: pages that stay go when their memory does. */
		if (range->flags.partial_unmap)
			drm_gpusvm_range_evict(&vm->gpusvm, range);
		drm_gpusvm_range_remove(&vm->gpusvm, range);
	}
}

/* END: Garbage */

/* START: GPU fault */
static int gpusvm_example_bind(struct gpusvm_mock *vm,
			       struct drm_gpusvm_range *range, bool write)
{
	struct drm_gpusvm *gpusvm = &vm->gpusvm;
	int err;

	drm_gpusvm_notifier_lock(gpusvm);
	if (drm_gpusvm_range_pages_valid(gpusvm, range))
		err = gpusvm_mock_write_pt(vm, range, write);
	else
		err = -EAGAIN;
	drm_gpusvm_notifier_unlock(gpusvm);

	return err;
}

static int gpusvm_example_try_fault(struct gpusvm_mock *vm, unsigned long addr,
				    bool write)
{
	struct drm_gpusvm_ctx ctx = {
		.read_only = !write,
		.devmem_possible = true,
	};
	struct drm_gpusvm *gpusvm = &vm->gpusvm;
	struct drm_gpusvm_range *range;
	int err;

	/* Garbage may be in the way of a new range. */
	gpusvm_example_collect_garbage(vm);

	range = drm_gpusvm_range_find_or_insert(gpusvm, addr, 0, ULONG_MAX,
						&ctx);
	if (IS_ERR(range))
		return PTR_ERR(range);

	/* On failure, the memory is mapped where it is. */
	if (range->flags.migrate_devmem)
		gpusvm_mock_migrate(vm, range);

	err = drm_gpusvm_range_get_pages(gpusvm, range, &ctx);
	if (err == -EOPNOTSUPP)
		drm_gpusvm_range_evict(gpusvm, range);

	return err ?: gpusvm_example_bind(vm, range, write);
}

int gpusvm_example_fault(struct gpusvm_mock *vm, unsigned long addr, bool write)
{
	int err, tries = 10;

	mutex_lock(&vm->lock);
	do {
		err = gpusvm_example_try_fault(vm, addr, write);
	} while (--tries && (err == -EAGAIN || err == -EOPNOTSUPP ||
			     err == -EFAULT || err == -EPERM));
	mutex_unlock(&vm->lock);

	return err;
}

/* END: GPU fault */
