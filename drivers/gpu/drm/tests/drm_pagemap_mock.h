/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
#ifndef DRM_PAGEMAP_MOCK_H_
#define DRM_PAGEMAP_MOCK_H_

#include <drm/drm_pagemap.h>

#include <kunit/test.h>

#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/types.h>

#include "drm_pagemap_test.h"

struct device_driver;
struct drm_device;
struct mm_struct;
struct pagemap_mock;

/*
 * A software device for the tests of DRM pagemap: real device-private pages
 * whose contents live in ordinary memory, 1:1.
 *
 * Every suite uses pagemap_mock_init() and pagemap_mock_exit() as its init and
 * exit; test->priv is the struct pagemap_mock.  The exit checks that nothing
 * leaked: no page of the pool in use, every allocation released exactly once,
 * free device memory untouched, no peer mapping and no bounce buffer left.
 */

/* Device memory of each mock device: as many pages, whatever their size. */
#define PAGEMAP_MOCK_POOL_SIZE	(4096UL << PAGE_SHIFT)

/* Free and fresh device memory is filled with this. */
#define PAGEMAP_MOCK_POISON	0xd5

/* Protocol of the addresses that the mock's device_map() gives out. */
#define PAGEMAP_MOCK_PROTO	(DRM_INTERCONNECT_DRIVER + 3)

/* Seconds after which a wait of the mock fails the case. */
#define PAGEMAP_MOCK_PATIENCE	60

#define PAGEMAP_MOCK_MAX_DEVS	3

/* Contents of a struct drm_pagemap that the driver did not zero. */
#define PAGEMAP_MOCK_GARBAGE	0xa5

/* The seed of the contents that pagemap_mock_map_filled() writes. */
#define PAGEMAP_MOCK_SEED	0x5eed

enum pagemap_mock_op {
	PAGEMAP_MOCK_POPULATE,
	PAGEMAP_MOCK_TO_DEVMEM,
	PAGEMAP_MOCK_TO_RAM,
	PAGEMAP_MOCK_FROM_PEER,
	PAGEMAP_MOCK_NUM_OPS,
};

/**
 * struct pagemap_mock_hook - instructions of a case for one operation of a device
 * @calls: Number of calls.
 * @pages: Number of pages it was called for, without those it skipped.
 * @max_pages: The most pages that one call was for.
 * @fail_call: Fail the call of this number, counted from 1 when armed; 0: none.
 * @fail_calls: Number of calls from @fail_call on that fail, at least 1.
 * @fail_page: Number of pages that the failing call handles before it fails.
 * @error: What it then returns, negative.
 * @delay_ms: Milliseconds that each call sleeps first.
 * @block_call: Let the call of this number block until @resume; 0: none.
 * @entered: Completed by the call that blocks.
 * @resume: Completed by the case; completed by pagemap_mock_exit() in any case.
 */
struct pagemap_mock_hook {
	atomic_t calls;
	atomic_t pages;
	unsigned long max_pages;
	int fail_call;
	int fail_calls;
	unsigned long fail_page;
	int error;
	unsigned int delay_ms;
	int block_call;
	struct completion entered;
	struct completion resume;
};

/**
 * struct pagemap_mock_dev - a device with a pool of memory
 * @dpagemap: What is under test.
 * @mock: The fixture.
 * @dev: The struct device, with a 64-bit DMA mask.
 * @drm: The DRM device of @dev.
 * @region: The pool's pages.  NULL once the device is gone.
 * @vram: The contents of the pool.
 * @npages: Pages in the pool.
 * @lock: Protects @used, @bo_of and @next.
 * @used: One bit per page of the pool that an allocation has.
 * @bo_of: The allocation that has a page of the pool.
 * @next: Where a scattered allocation looks next.
 * @hook: Per operation.
 * @zero_sources: Pages copied to the device whose source was all zeroes.
 * @skipped: Pages that had no source address, %DRM_PAGEMAP_DEVMEM_CLEARED.
 * @count_zeroes: Whether to count @zero_sources, which takes time.
 * @maps: Calls of device_map() that succeeded.
 * @unmaps: Calls of device_unmap().
 * @bus_base: Address of the pool for peers.
 * @unreachable: Whether device_map() fails for other devices.
 * @map_single: Whether device_map() maps one page, whatever the order.
 * @fail_map: Calls of device_map() until one fails, with it; 0: none does.
 * @alloc_asked: Pages that the last pagemap_mock_alloc() was asked for.
 * @alloc_calls: Number of calls of pagemap_mock_alloc().
 * @fault_window: &drm_pagemap_devmem.fault_window of what it makes.
 * @alloc_error: What pagemap_mock_alloc() returns instead of an allocation.
 * @populate_calls: Calls of &drm_pagemap_ops.populate_mm.
 */
struct pagemap_mock_dev {
	struct drm_pagemap dpagemap;
	struct pagemap_mock *mock;
	struct device *dev;
	struct drm_device *drm;
	struct drm_pagemap_region *region;
	void *vram;
	unsigned long npages;
	spinlock_t lock;	/* see above */
	unsigned long *used;
	struct pagemap_mock_bo **bo_of;
	unsigned long next;
	struct pagemap_mock_hook hook[PAGEMAP_MOCK_NUM_OPS];
	atomic_t zero_sources;
	atomic_t skipped;
	bool count_zeroes;
	atomic_t maps;
	atomic_t unmaps;
	dma_addr_t bus_base;
	bool unreachable;
	bool map_single;
	unsigned int fail_map;
	unsigned long alloc_asked;
	unsigned int alloc_calls;
	unsigned long fault_window;
	int alloc_error;
	unsigned int populate_calls;
};

/* Pages of the allocation are deliberately not contiguous. */
#define PAGEMAP_MOCK_SCATTER	BIT(0)
/* The allocation comes zeroed, %DRM_PAGEMAP_DEVMEM_CLEARED. */
#define PAGEMAP_MOCK_CLEARED	BIT(1)
/* Asked for some of its pages, the allocation gives them all. */
#define PAGEMAP_MOCK_GREEDY	BIT(2)

/**
 * struct pagemap_mock_bo - an allocation of device memory
 * @devmem: The object under test.
 * @mdev: The device.
 * @kref: References; the pages of the pool go back with the last one.
 * @npages: Number of pages.
 * @greedy: %PAGEMAP_MOCK_GREEDY
 * @release_ms: Milliseconds that devmem_release() sleeps first.
 * @releases: Number of calls of devmem_release().
 * @freed: The last reference is gone.
 * @link: In &pagemap_mock.bos.  The memory of this struct stays until the end
 *        of the case, so that a second release is seen.
 * @idx: Indices of the pages in the pool.
 */
struct pagemap_mock_bo {
	struct drm_pagemap_devmem devmem;
	struct pagemap_mock_dev *mdev;
	struct kref kref;
	unsigned long npages;
	bool greedy;
	unsigned int release_ms;
	atomic_t releases;
	bool freed;
	struct list_head link;
	u32 idx[] __counted_by(npages);
};

/**
 * struct pagemap_mock - the fixture of a case
 * @test: The test.
 * @owner: Address is the owner cookie of the devices' pages.
 * @driver: The driver of the devices.
 * @ndevs: Number of devices.
 * @dev: The devices.
 * @bo_lock: Protects @bos.
 * @bos: Every allocation made in the case.
 * @threads: Every thread started in the case.  Only the test's thread uses it.
 * @bounced: Bounce buffer slots in use when the case began.
 * @wrong: Number of times that an operation was called against its contract.
 */
struct pagemap_mock {
	struct kunit *test;
	char owner;
	struct device_driver *driver;
	unsigned int ndevs;
	struct pagemap_mock_dev dev[PAGEMAP_MOCK_MAX_DEVS];
	struct mutex bo_lock;	/* see above */
	struct list_head bos;
	struct list_head threads;
	long bounced;
	atomic_t wrong;
};

/* The backing of a page of the process, as hmm_range_fault() reports it. */
enum pagemap_mock_where {
	PAGEMAP_MOCK_NONE,
	PAGEMAP_MOCK_RAM,
	PAGEMAP_MOCK_DEV0,
	PAGEMAP_MOCK_DEV1,
	PAGEMAP_MOCK_DEV2,
	PAGEMAP_MOCK_ZERO,	/* the zero page */
	PAGEMAP_MOCK_UNMAPPED,	/* no VMA, or one that cannot be read */
};

/**
 * struct pagemap_mock_thread - a thread that runs in a process's address space
 * @link: In &pagemap_mock.threads.
 * @mm: The address space, with a reference; NULL: the thread makes its own by
 *      kunit_vm_mmap() and takes it along when it ends.
 * @fn: What it runs.
 * @arg: Argument of @fn.
 * @ret: What @fn returned.
 * @started: Completed before @fn is called.
 * @done: Completed after @fn returned.
 */
struct pagemap_mock_thread {
	struct list_head link;
	struct mm_struct *mm;
	int (*fn)(void *arg);
	void *arg;
	int ret;
	struct completion started;
	struct completion done;
};

#define PAGEMAP_MOCK_READERS	4

/**
 * struct pagemap_mock_readers - threads that read random pages of a mapping
 * @addr: The mapping, filled with %PAGEMAP_MOCK_SEED.
 * @npages: Number of its pages.
 * @seed: Seed of the first thread.
 * @reads: Number of pages read, plus one for each thread.
 * @stop: Ends the threads.
 * @thread: The threads.
 */
struct pagemap_mock_readers {
	unsigned long addr;
	unsigned long npages;
	u32 seed;
	atomic_t reads;
	bool stop;
	struct pagemap_mock_thread *thread[PAGEMAP_MOCK_READERS];
};

/* Fixture.  _init() makes one device; more are added in the case. */
int pagemap_mock_init(struct kunit *test);
int pagemap_mock_init_coherent(struct kunit *test);
void pagemap_mock_exit(struct kunit *test);
struct pagemap_mock_dev *pagemap_mock_add_dev(struct pagemap_mock *mock,
					      const char *name);
struct pagemap_mock_dev *pagemap_mock_add_coherent(struct pagemap_mock *mock,
						   const char *name);
void pagemap_mock_remove_dev(struct pagemap_mock_dev *mdev);
void pagemap_mock_connect(struct pagemap_mock *mock);

static inline struct pagemap_mock_dev *pagemap_mock_dev0(struct kunit *test)
{
	struct pagemap_mock *mock = test->priv;

	return &mock->dev[0];
}

static inline s64 pagemap_mock_counter(struct pagemap_mock_dev *mdev,
				       enum drm_pagemap_counter counter)
{
	return atomic64_read(&mdev->region->counters[counter]);
}

/* Hooks: clears the counters, then what is set comes into force. */
struct pagemap_mock_hook *pagemap_mock_arm(struct pagemap_mock_dev *mdev,
					   enum pagemap_mock_op op);
void pagemap_mock_fail(struct pagemap_mock_dev *mdev, enum pagemap_mock_op op,
		       int call, unsigned long page, int error);
struct pagemap_mock_hook *pagemap_mock_block(struct pagemap_mock_dev *mdev,
					     enum pagemap_mock_op op, int call);
bool pagemap_mock_wait(struct kunit *test, struct completion *done);

/* Allocations.  bo_create() is for any thread, the others for the test's own. */
struct pagemap_mock_bo *pagemap_mock_bo_create(struct pagemap_mock_dev *mdev,
					       unsigned long npages,
					       unsigned int flags);
struct pagemap_mock_bo *pagemap_mock_bo(struct pagemap_mock_dev *mdev,
					unsigned long npages,
					unsigned int flags);
bool pagemap_mock_bo_get(struct pagemap_mock_bo *bo);
void pagemap_mock_bo_put(struct pagemap_mock_bo *bo);
struct page *pagemap_mock_bo_page(struct pagemap_mock_bo *bo, unsigned long i);
extern const struct drm_pagemap_devmem_ops pagemap_mock_devmem_ops;
struct drm_pagemap_devmem *pagemap_mock_alloc(struct drm_pagemap_migration *mig,
					      unsigned long npages);

/* The entry points under test, called as a driver calls them. */
int pagemap_mock_migrate(struct pagemap_mock_bo *bo, unsigned long addr,
			 unsigned long npages, unsigned long timeslice_ms);
int pagemap_mock_migrate_flags(struct pagemap_mock_dev *mdev,
			       unsigned long addr, unsigned long npages,
			       unsigned int flags,
			       struct drm_pagemap_migration *mig);
int pagemap_mock_migrate_missing(struct pagemap_mock_dev *mdev,
				 unsigned long addr, unsigned long npages,
				 struct drm_pagemap_migration *mig);
struct pagemap_mock_bo *pagemap_mock_to_dev(struct pagemap_mock_dev *mdev,
					    unsigned long addr,
					    unsigned long npages,
					    unsigned int flags);
int pagemap_mock_evict(struct pagemap_mock_bo *bo);

/* The process's memory. */
unsigned long pagemap_mock_mmap(struct kunit *test, unsigned long npages,
				unsigned long prot);
unsigned long pagemap_mock_mmap_thp(struct kunit *test, unsigned long npages);
int pagemap_mock_touch(unsigned long addr);
u64 pagemap_mock_word(unsigned long addr, u32 seed);
int pagemap_mock_write(unsigned long addr, unsigned long npages, u32 seed);
int pagemap_mock_read(unsigned long addr, unsigned long npages, u32 seed);
int pagemap_mock_read_zero(unsigned long addr, unsigned long npages);
int pagemap_mock_where(struct pagemap_mock *mock, unsigned long addr,
		       unsigned long npages, u8 *where);
unsigned long pagemap_mock_count(struct kunit *test, unsigned long addr,
				 unsigned long npages, u8 where);
unsigned long pagemap_mock_elsewhere(struct kunit *test, unsigned long addr,
				     unsigned long npages, u8 where);
unsigned long pagemap_mock_in_use(struct pagemap_mock_dev *mdev);

unsigned long pagemap_mock_map(struct kunit *test, unsigned long npages);
unsigned long pagemap_mock_map_filled(struct kunit *test, unsigned long npages);
int pagemap_mock_pin(unsigned long addr, struct page **page);
bool pagemap_mock_is_huge(unsigned long addr);

/* Expectations of cases. */
void pagemap_mock_expect_released(struct kunit *test, struct pagemap_mock_bo *bo);
void pagemap_mock_expect_kept(struct kunit *test, struct pagemap_mock_bo *bo);
void pagemap_mock_expect_resident(struct kunit *test,
				  struct pagemap_mock_dev *mdev,
				  unsigned long npages);

/* Threads. */
struct pagemap_mock_thread *pagemap_mock_thread(struct kunit *test,
						int (*fn)(void *arg), void *arg);
struct pagemap_mock_thread *pagemap_mock_process(struct kunit *test,
						 int (*fn)(void *arg),
						 void *arg);
int pagemap_mock_join(struct kunit *test, struct pagemap_mock_thread *thread);
void pagemap_mock_join_all(struct kunit *test,
			   struct pagemap_mock_thread **thread, unsigned int n);
struct pagemap_mock_readers *pagemap_mock_start_readers(struct kunit *test,
							unsigned long npages);
void pagemap_mock_stop_readers(struct kunit *test,
			       struct pagemap_mock_readers *r);

/* The seed of a random case. */
static inline u32 pagemap_mock_seed(struct kunit *test)
{
	return drm_pagemap_test_seed(test);
}

#endif
