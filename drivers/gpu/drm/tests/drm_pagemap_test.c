// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * KUnit tests for the parts of DRM pagemap that need no device pages: addresses, the
 * life cycle of struct drm_pagemap_zdd, merging of runs, window arithmetic.
 * They run everywhere, including UML.
 */

#include <kunit/static_stub.h>
#include <kunit/test.h>

#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/hrtimer.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/prandom.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/timer.h>

#include <drm/drm_pagemap.h>

#include "../drm_pagemap_internal.h"
#include "drm_pagemap_test.h"

/* Limit after which anything in here is called a hang */
#define DRM_PAGEMAP_TEST_TIMEOUT	(20 * HZ)

static unsigned int seed;
module_param(seed, uint, 0400);
MODULE_PARM_DESC(seed, "Seed of the random cases, to replay a failure; 0 for a new one");

/**
 * drm_pagemap_test_seed() - The seed of a random case
 * @test: The test.
 *
 * Every random case takes its seed from here, so that the log tells how to
 * replay it.
 *
 * Return: The seed, never 0.
 */
u32 drm_pagemap_test_seed(struct kunit *test)
{
	u32 used = seed ?: get_random_u32() | 1;

	kunit_info(test, "replay with drm_pagemap_kunit.seed=%u\n", used);

	return used;
}

static u32 drm_pagemap_test_rnd(struct kunit *test, struct rnd_state *rnd)
{
	u32 used = drm_pagemap_test_seed(test);

	prandom_seed_state(rnd, used);

	return used;
}

static u64 drm_pagemap_test_u64(struct rnd_state *rnd)
{
	u64 high = prandom_u32_state(rnd);

	return high << 32 | prandom_u32_state(rnd);
}

static u32 drm_pagemap_test_below(struct rnd_state *rnd, u32 limit)
{
	return prandom_u32_state(rnd) % limit;
}

/*
 * Addresses
 */

#define DRM_PAGEMAP_TEST_MAX_PROTO	((1ULL << 54) - 1)

struct drm_pagemap_addr_param {
	const char *name;
	u64 addr;
	u64 proto;
	/* Up to which order it can be packed, or -1 for never */
	int packs_to_order;
};

static const struct drm_pagemap_addr_param drm_pagemap_addr_params[] = {
	{ "address 0, system", 0, DRM_INTERCONNECT_SYSTEM, 63 },
	{ "address 0, driver", 0, DRM_INTERCONNECT_DRIVER, 63 },
	{ "second page", PAGE_SIZE, DRM_INTERCONNECT_SYSTEM, 63 },
	{ "below 4G", 0x100000000ULL - PAGE_SIZE, DRM_INTERCONNECT_DRIVER, 63 },
#ifdef CONFIG_ARCH_DMA_ADDR_T_64BIT
	{ "at 4G", 0x100000000ULL, DRM_INTERCONNECT_DRIVER, 63 },
	{ "bit 52", 1ULL << 52, DRM_INTERCONNECT_SYSTEM, 63 },
	{ "bit 63", 1ULL << 63, DRM_INTERCONNECT_DRIVER, 63 },
	{ "last page", -(u64)PAGE_SIZE, DRM_INTERCONNECT_DRIVER, 63 },
	{ "all bits", U64_MAX, DRM_INTERCONNECT_SYSTEM, -1 },
#endif
	{ "first driver value", 0x1000000, DRM_INTERCONNECT_DRIVER + 1, 63 },
	{ "last protocol that packs", 0x1000000, 15, 63 },
	{ "first protocol too many", 0x1000000, 16, -1 },
	{ "protocol 32", 0x1000000, 32, -1 },
	{ "protocol of 32 bits", 0x1000000, U32_MAX, -1 },
	{ "protocol 1 << 53", 0x1000000, 1ULL << 53, -1 },
	{ "last protocol", 0x1000000, DRM_PAGEMAP_TEST_MAX_PROTO, -1 },
	{ "one byte into a page", PAGE_SIZE + 1, DRM_INTERCONNECT_DRIVER, -1 },
	{ "half a page", PAGE_SIZE / 2, DRM_INTERCONNECT_SYSTEM, -1 },
	{ "last byte of a page", 3 * PAGE_SIZE - 1, DRM_INTERCONNECT_DRIVER, -1 },
	{ "failed mapping", (u64)DMA_MAPPING_ERROR, DRM_INTERCONNECT_SYSTEM, -1 },
};

KUNIT_ARRAY_PARAM_DESC(drm_pagemap_addr, drm_pagemap_addr_params, name);

/* The encoder takes an enum, which is narrower than the field. */
static struct drm_pagemap_device_addr
drm_pagemap_addr_make(u64 addr, u64 proto, unsigned int order,
		      enum dma_data_direction dir)
{
	struct drm_pagemap_device_addr ret;

	ret = drm_pagemap_device_addr_encode(addr, proto, order, dir);
	if (proto > U32_MAX)
		ret.proto = proto;

	return ret;
}

static bool drm_pagemap_addr_equal(struct drm_pagemap_device_addr a,
				   struct drm_pagemap_device_addr b)
{
	return a.addr == b.addr && a.proto == b.proto &&
	       a.order == b.order && a.dir == b.dir;
}

/*
 * Succeeds if the struct has the size that tables of it are built on, and the
 * packed form half of it.
 */
static void drm_pagemap_test_addr_size(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, sizeof(struct drm_pagemap_packed_addr), 8);
	if (sizeof(dma_addr_t) != 8)
		kunit_skip(test, "32 bit dma_addr_t");
	KUNIT_EXPECT_EQ(test, sizeof(struct drm_pagemap_device_addr), 16);
}

/*
 * Succeeds if for every order and direction, each of the four fields holds
 * exactly what was encoded, whatever the others are.
 */
static void drm_pagemap_test_addr_encode(struct kunit *test)
{
	const struct drm_pagemap_addr_param *p = test->param_value;
	struct drm_pagemap_device_addr addr;
	unsigned int order, dir;

	for (order = 0; order <= 255; order++) {
		for (dir = DMA_BIDIRECTIONAL; dir <= DMA_NONE; dir++) {
			addr = drm_pagemap_addr_make(p->addr, p->proto, order,
						     dir);
			KUNIT_ASSERT_EQ(test, (u64)addr.addr, p->addr);
			KUNIT_ASSERT_EQ(test, (u64)addr.proto, p->proto);
			KUNIT_ASSERT_EQ(test, (u64)addr.order, (u64)order);
			KUNIT_ASSERT_EQ(test, (u64)addr.dir, (u64)dir);
		}
	}
}

/*
 * Succeeds if what the table calls packable is, up to the order it names, and
 * comes back unchanged; everything else is refused.
 */
static void drm_pagemap_test_addr_pack(struct kunit *test)
{
	const struct drm_pagemap_addr_param *p = test->param_value;
	struct drm_pagemap_device_addr addr, out;
	struct drm_pagemap_packed_addr packed;
	unsigned int order, dir;
	bool fits;

	for (order = 0; order <= 255; order++) {
		for (dir = DMA_BIDIRECTIONAL; dir <= DMA_NONE; dir++) {
			addr = drm_pagemap_addr_make(p->addr, p->proto, order,
						     dir);
			fits = drm_pagemap_device_addr_can_pack(addr);
			KUNIT_ASSERT_EQ_MSG(test, fits,
					    (int)order <= p->packs_to_order,
					    "order %u dir %u", order, dir);
			if (!fits)
				continue;

			packed = drm_pagemap_device_addr_pack(addr);
			out = drm_pagemap_device_addr_unpack(packed);
			KUNIT_ASSERT_TRUE_MSG(test,
					      drm_pagemap_addr_equal(addr, out),
					      "order %u dir %u", order, dir);
		}
	}
}

/*
 * Succeeds if the failure address of the DMA API is refused with every
 * protocol, order and direction, so that it cannot end up in a packed table.
 */
static void drm_pagemap_test_addr_pack_error(struct kunit *test)
{
	struct drm_pagemap_device_addr addr;
	unsigned int proto, order, dir;

	for (proto = 0; proto < 16; proto++) {
		for (order = 0; order < 64; order++) {
			for (dir = DMA_BIDIRECTIONAL; dir <= DMA_NONE; dir++) {
				addr = drm_pagemap_addr_make(DMA_MAPPING_ERROR,
							     proto, order, dir);
				KUNIT_ASSERT_FALSE(test,
						   drm_pagemap_device_addr_can_pack(addr));
			}
		}
	}
}

/* The layout in plain arithmetic: address, protocol, order, direction. */
static u64 drm_pagemap_addr_pack_ref(u64 addr, u64 proto, u64 order, u64 dir)
{
	return addr / 4096 * 4096 + proto * 256 + order * 4 + dir;
}

static void drm_pagemap_addr_check_one(struct kunit *test, u32 used,
				       u64 addr, u64 proto, unsigned int order,
				       enum dma_data_direction dir)
{
	struct drm_pagemap_device_addr in, out;
	struct drm_pagemap_packed_addr packed;

	in = drm_pagemap_addr_make(addr, proto, order, dir);
	KUNIT_ASSERT_EQ_MSG(test, drm_pagemap_device_addr_can_pack(in),
			    proto < 16 && order < 64,
			    "addr %llx proto %llu order %u dir %u seed %u",
			    addr, proto, order, dir, used);
	if (proto >= 16 || order >= 64)
		return;

	packed = drm_pagemap_device_addr_pack(in);
	KUNIT_ASSERT_EQ_MSG(test, packed.val,
			    drm_pagemap_addr_pack_ref(addr, proto, order, dir),
			    "seed %u", used);

	out = drm_pagemap_device_addr_unpack(packed);
	KUNIT_ASSERT_EQ_MSG(test, (u64)out.addr, addr, "seed %u", used);
	KUNIT_ASSERT_EQ_MSG(test, (u64)out.proto, proto, "seed %u", used);
	KUNIT_ASSERT_EQ_MSG(test, (u64)out.order, (u64)order, "seed %u", used);
	KUNIT_ASSERT_EQ_MSG(test, (u64)out.dir, (u64)dir, "seed %u", used);
}

/*
 * Succeeds if every combination of protocol, order and direction, with random
 * page addresses, packs to the documented layout and comes back unchanged, or
 * is refused because a field does not fit.
 */
static void drm_pagemap_test_addr_pack_exhaustive(struct kunit *test)
{
	unsigned int proto, order, dir;
	struct rnd_state rnd;
	u32 used = drm_pagemap_test_rnd(test, &rnd);
	dma_addr_t addr;

	for (proto = 0; proto < 18; proto++) {
		for (order = 0; order <= 255; order++) {
			for (dir = DMA_BIDIRECTIONAL; dir <= DMA_NONE; dir++) {
				addr = drm_pagemap_test_u64(&rnd) & PAGE_MASK;
				drm_pagemap_addr_check_one(test, used, addr,
							   proto, order, dir);
			}
		}
	}
	for (proto = 4; proto < 54; proto++)
		drm_pagemap_addr_check_one(test, used, addr, 1ULL << proto, 0,
					   DMA_BIDIRECTIONAL);
}

/*
 * Succeeds if two different addresses never pack to the same value: changing
 * any one field changes the packed form.
 */
static void drm_pagemap_test_addr_pack_distinct(struct kunit *test)
{
	struct drm_pagemap_device_addr base, other;
	u64 val;
	unsigned int bit;

	base = drm_pagemap_addr_make(0, 0, 0, 0);
	val = drm_pagemap_device_addr_pack(base).val;
	KUNIT_EXPECT_EQ(test, val, 0);

	for (bit = 0; bit < 64; bit++) {
		other = drm_pagemap_device_addr_unpack((struct drm_pagemap_packed_addr) {
			.val = 1ULL << bit,
		});
		KUNIT_EXPECT_FALSE_MSG(test, drm_pagemap_addr_equal(base, other),
				       "bit %u means nothing", bit);
		if (sizeof(dma_addr_t) == 8)
			KUNIT_EXPECT_EQ(test, drm_pagemap_device_addr_pack(other).val,
					1ULL << bit);
	}
}

static struct kunit_case drm_pagemap_addr_cases[] = {
	KUNIT_CASE(drm_pagemap_test_addr_size),
	KUNIT_CASE_PARAM(drm_pagemap_test_addr_encode, drm_pagemap_addr_gen_params),
	KUNIT_CASE_PARAM(drm_pagemap_test_addr_pack, drm_pagemap_addr_gen_params),
	KUNIT_CASE(drm_pagemap_test_addr_pack_error),
	KUNIT_CASE(drm_pagemap_test_addr_pack_exhaustive),
	KUNIT_CASE(drm_pagemap_test_addr_pack_distinct),
	{}
};

static struct kunit_suite drm_pagemap_addr_suite = {
	.name = "drm_pagemap_addr",
	.test_cases = drm_pagemap_addr_cases,
};

/*
 * Life cycle of struct drm_pagemap_zdd
 */

/* An allocation that notes how it is released */
struct drm_pagemap_zdd_obj {
	struct drm_pagemap_devmem devmem;
	struct task_struct *putter;
	atomic_t released;
	unsigned int sleep_ms;
	bool wrong_context;
	bool not_detached;
};

static void drm_pagemap_zdd_obj_release(struct drm_pagemap_devmem *devmem)
{
	struct drm_pagemap_zdd_obj *obj =
		container_of(devmem, struct drm_pagemap_zdd_obj, devmem);

	if (preempt_count() || irqs_disabled() ||
	    current == READ_ONCE(obj->putter))
		obj->wrong_context = true;
	if (!completion_done(&devmem->detached))
		obj->not_detached = true;
	if (!obj->wrong_context) {
		might_sleep();
		msleep(obj->sleep_ms);
	}
	atomic_inc(&obj->released);
}

static const struct drm_pagemap_devmem_ops drm_pagemap_zdd_ops = {
	.devmem_release = drm_pagemap_zdd_obj_release,
};

static const struct drm_pagemap_devmem_ops drm_pagemap_zdd_ops_no_release = {
};

static void drm_pagemap_zdd_obj_init(struct drm_pagemap_zdd_obj *obj,
				     const struct drm_pagemap_devmem_ops *ops)
{
	memset(obj, 0, sizeof(*obj));
	drm_pagemap_devmem_init(&obj->devmem, NULL, NULL, ops, NULL, SZ_2M);
}

static struct drm_pagemap_zdd_obj *
drm_pagemap_zdd_obj_new(struct kunit *test)
{
	struct drm_pagemap_zdd_obj *obj;

	obj = kunit_kzalloc(test, sizeof(*obj), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, obj);
	drm_pagemap_zdd_obj_init(obj, &drm_pagemap_zdd_ops);

	return obj;
}

static struct drm_pagemap_zdd *
drm_pagemap_zdd_new(struct kunit *test, struct drm_pagemap_zdd_obj *obj)
{
	struct drm_pagemap_zdd *zdd;

	zdd = drm_pagemap_zdd_create(&obj->devmem, test);
	KUNIT_ASSERT_FALSE(test, IS_ERR_OR_NULL(zdd));

	return zdd;
}

/* After the flush the release is over: exactly one, from the right context. */
static void drm_pagemap_zdd_expect_released(struct kunit *test,
					    struct drm_pagemap_zdd_obj *obj)
{
	drm_pagemap_release_flush();
	KUNIT_EXPECT_EQ(test, atomic_read(&obj->released), 1);
	KUNIT_EXPECT_TRUE(test, completion_done(&obj->devmem.detached));
	KUNIT_EXPECT_FALSE(test, obj->wrong_context);
	KUNIT_EXPECT_FALSE(test, obj->not_detached);
}

static void drm_pagemap_zdd_expect_alive(struct kunit *test,
					 struct drm_pagemap_zdd_obj *obj)
{
	drm_pagemap_release_flush();
	KUNIT_ASSERT_EQ(test, atomic_read(&obj->released), 0);
	KUNIT_ASSERT_FALSE(test, completion_done(&obj->devmem.detached));
}

/*
 * Succeeds if a new zdd carries the allocation and the owner and holds one
 * reference, whose put releases the allocation.
 */
static void drm_pagemap_test_zdd_lifetime(struct kunit *test)
{
	struct drm_pagemap_zdd_obj *obj = drm_pagemap_zdd_obj_new(test);
	struct drm_pagemap_zdd *zdd = drm_pagemap_zdd_new(test, obj);

	KUNIT_EXPECT_PTR_EQ(test, zdd->devmem, &obj->devmem);
	KUNIT_EXPECT_PTR_EQ(test, zdd->owner, (void *)test);
	KUNIT_EXPECT_EQ(test, kref_read(&zdd->refcount), 1);
	drm_pagemap_zdd_expect_alive(test, obj);

	drm_pagemap_zdd_put(zdd);
	drm_pagemap_zdd_expect_released(test, obj);
}

struct drm_pagemap_zdd_refs_param {
	const char *name;
	/* References to take (positive) or to put (negative), up to a 0 */
	int ops[10];
};

static const struct drm_pagemap_zdd_refs_param drm_pagemap_zdd_refs_params[] = {
	{ "one page", { 1 } },
	{ "two pages", { 2 } },
	{ "512 pages", { 512 } },
	{ "pages in steps", { 1, 2, 3, 4 } },
	{ "put before get", { 1, -1, 1, -1, 1 } },
	{ "free all but one, take more", { 8, -7, 100, -99 } },
	{ "up and down", { 16, -15, 15, -15, 511, -512, 3 } },
	{ "2M pages of 4K", { 1 << 21 } },
};

KUNIT_ARRAY_PARAM_DESC(drm_pagemap_zdd_refs, drm_pagemap_zdd_refs_params, name);

/*
 * Succeeds if whatever the order of gets and puts, the allocation is alive
 * while one reference is left, and is released by the put of the last.
 */
static void drm_pagemap_test_zdd_get_put_order(struct kunit *test)
{
	const struct drm_pagemap_zdd_refs_param *p = test->param_value;
	struct drm_pagemap_zdd_obj *obj = drm_pagemap_zdd_obj_new(test);
	struct drm_pagemap_zdd *zdd = drm_pagemap_zdd_new(test, obj);
	unsigned int refs = 1;
	int i, k;

	for (i = 0; i < ARRAY_SIZE(p->ops) && p->ops[i]; i++) {
		if (p->ops[i] > 0)
			drm_pagemap_zdd_get_many(zdd, p->ops[i]);
		for (k = p->ops[i]; k < 0; k++)
			drm_pagemap_zdd_put(zdd);
		refs += p->ops[i];
		KUNIT_ASSERT_EQ(test, kref_read(&zdd->refcount), refs);
	}

	while (refs-- > 1)
		drm_pagemap_zdd_put(zdd);
	drm_pagemap_zdd_expect_alive(test, obj);

	drm_pagemap_zdd_put(zdd);
	drm_pagemap_zdd_expect_released(test, obj);
}

/*
 * Succeeds if getting no reference at all changes nothing.
 */
static void drm_pagemap_test_zdd_get_none(struct kunit *test)
{
	struct drm_pagemap_zdd_obj *obj = drm_pagemap_zdd_obj_new(test);
	struct drm_pagemap_zdd *zdd = drm_pagemap_zdd_new(test, obj);

	drm_pagemap_zdd_get_many(zdd, 0);
	KUNIT_EXPECT_EQ(test, kref_read(&zdd->refcount), 1);

	drm_pagemap_zdd_put(zdd);
	drm_pagemap_zdd_expect_released(test, obj);
}

enum drm_pagemap_zdd_context {
	DRM_PAGEMAP_ZDD_TASK,
	DRM_PAGEMAP_ZDD_PREEMPT_OFF,
	DRM_PAGEMAP_ZDD_BH_OFF,
	DRM_PAGEMAP_ZDD_IRQ_OFF,
	DRM_PAGEMAP_ZDD_SPINLOCK,
	DRM_PAGEMAP_ZDD_SPINLOCK_IRQ_OFF,
	DRM_PAGEMAP_ZDD_RCU,
	DRM_PAGEMAP_ZDD_SOFTIRQ,
	DRM_PAGEMAP_ZDD_HARDIRQ,
};

struct drm_pagemap_zdd_context_param {
	const char *name;
	enum drm_pagemap_zdd_context context;
};

static const struct drm_pagemap_zdd_context_param drm_pagemap_zdd_context_params[] = {
	{ "process context", DRM_PAGEMAP_ZDD_TASK },
	{ "preemption off", DRM_PAGEMAP_ZDD_PREEMPT_OFF },
	{ "bottom halves off", DRM_PAGEMAP_ZDD_BH_OFF },
	{ "interrupts off", DRM_PAGEMAP_ZDD_IRQ_OFF },
	{ "spinlock", DRM_PAGEMAP_ZDD_SPINLOCK },
	{ "spinlock, interrupts off", DRM_PAGEMAP_ZDD_SPINLOCK_IRQ_OFF },
	{ "RCU read side", DRM_PAGEMAP_ZDD_RCU },
	{ "softirq", DRM_PAGEMAP_ZDD_SOFTIRQ },
	{ "hardirq", DRM_PAGEMAP_ZDD_HARDIRQ },
};

KUNIT_ARRAY_PARAM_DESC(drm_pagemap_zdd_context, drm_pagemap_zdd_context_params, name);

static DEFINE_SPINLOCK(drm_pagemap_zdd_test_lock);

/* A put from a timer */
struct drm_pagemap_zdd_timer {
	struct hrtimer hrtimer;
	struct timer_list timer;
	struct drm_pagemap_zdd *zdd;
	struct completion fired;
	bool right_context;
};

static enum hrtimer_restart drm_pagemap_zdd_hrtimer(struct hrtimer *hrtimer)
{
	struct drm_pagemap_zdd_timer *t =
		container_of(hrtimer, struct drm_pagemap_zdd_timer, hrtimer);

	t->right_context = in_hardirq();
	drm_pagemap_zdd_put(t->zdd);
	complete(&t->fired);

	return HRTIMER_NORESTART;
}

static void drm_pagemap_zdd_timer_fn(struct timer_list *timer)
{
	struct drm_pagemap_zdd_timer *t = from_timer(t, timer, timer);

	t->right_context = in_serving_softirq();
	drm_pagemap_zdd_put(t->zdd);
	complete(&t->fired);
}

/* Return: whether the put was made in the context that was asked for. */
static bool drm_pagemap_zdd_put_in_irq(struct drm_pagemap_zdd *zdd, bool hard)
{
	struct drm_pagemap_zdd_timer t = { .zdd = zdd };

	init_completion(&t.fired);
	hrtimer_init_on_stack(&t.hrtimer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
	t.hrtimer.function = drm_pagemap_zdd_hrtimer;
	timer_setup_on_stack(&t.timer, drm_pagemap_zdd_timer_fn, 0);

	if (hard)
		hrtimer_start(&t.hrtimer, ms_to_ktime(1), HRTIMER_MODE_REL_HARD);
	else
		mod_timer(&t.timer, jiffies + 1);
	if (!wait_for_completion_timeout(&t.fired, DRM_PAGEMAP_TEST_TIMEOUT))
		t.right_context = false;

	hrtimer_cancel(&t.hrtimer);
	timer_delete_sync(&t.timer);
	destroy_hrtimer_on_stack(&t.hrtimer);
	destroy_timer_on_stack(&t.timer);

	return t.right_context;
}

static void drm_pagemap_zdd_put_atomic(struct drm_pagemap_zdd *zdd,
				       enum drm_pagemap_zdd_context context)
{
	unsigned long flags;

	switch (context) {
	case DRM_PAGEMAP_ZDD_PREEMPT_OFF:
		preempt_disable();
		drm_pagemap_zdd_put(zdd);
		preempt_enable();
		break;
	case DRM_PAGEMAP_ZDD_BH_OFF:
		local_bh_disable();
		drm_pagemap_zdd_put(zdd);
		local_bh_enable();
		break;
	case DRM_PAGEMAP_ZDD_IRQ_OFF:
		local_irq_save(flags);
		drm_pagemap_zdd_put(zdd);
		local_irq_restore(flags);
		break;
	case DRM_PAGEMAP_ZDD_SPINLOCK:
		spin_lock(&drm_pagemap_zdd_test_lock);
		drm_pagemap_zdd_put(zdd);
		spin_unlock(&drm_pagemap_zdd_test_lock);
		break;
	case DRM_PAGEMAP_ZDD_SPINLOCK_IRQ_OFF:
		spin_lock_irqsave(&drm_pagemap_zdd_test_lock, flags);
		drm_pagemap_zdd_put(zdd);
		spin_unlock_irqrestore(&drm_pagemap_zdd_test_lock, flags);
		break;
	case DRM_PAGEMAP_ZDD_RCU:
		rcu_read_lock();
		drm_pagemap_zdd_put(zdd);
		rcu_read_unlock();
		break;
	default:
		drm_pagemap_zdd_put(zdd);
		break;
	}
}

/* Return: false if the context cannot be had. */
static bool drm_pagemap_zdd_put_in(struct drm_pagemap_zdd *zdd,
				   enum drm_pagemap_zdd_context context)
{
	if (context == DRM_PAGEMAP_ZDD_SOFTIRQ ||
	    context == DRM_PAGEMAP_ZDD_HARDIRQ)
		return drm_pagemap_zdd_put_in_irq(zdd, context == DRM_PAGEMAP_ZDD_HARDIRQ);

	drm_pagemap_zdd_put_atomic(zdd, context);

	return true;
}

/* With PREEMPT_RT, no page is freed where a spinlock must not be taken. */
static void drm_pagemap_zdd_need_context(struct kunit *test,
					 enum drm_pagemap_zdd_context context)
{
	if (IS_ENABLED(CONFIG_PREEMPT_RT) &&
	    (context == DRM_PAGEMAP_ZDD_PREEMPT_OFF ||
	     context == DRM_PAGEMAP_ZDD_IRQ_OFF ||
	     context == DRM_PAGEMAP_ZDD_HARDIRQ))
		kunit_skip(test, "no page is freed there with PREEMPT_RT");
}

/*
 * Succeeds if wherever the last put runs, devmem_release() is called exactly
 * once, from a process context that may sleep, which is not the putter's own
 * when that one is atomic.
 */
static void drm_pagemap_test_zdd_last_put(struct kunit *test)
{
	const struct drm_pagemap_zdd_context_param *p = test->param_value;
	struct drm_pagemap_zdd_obj *obj;
	struct drm_pagemap_zdd *zdd;

	drm_pagemap_zdd_need_context(test, p->context);
	obj = drm_pagemap_zdd_obj_new(test);
	zdd = drm_pagemap_zdd_new(test, obj);
	obj->sleep_ms = 2;
	if (p->context != DRM_PAGEMAP_ZDD_TASK)
		obj->putter = current;

	KUNIT_EXPECT_TRUE(test, drm_pagemap_zdd_put_in(zdd, p->context));
	KUNIT_EXPECT_TRUE(test, completion_done(&obj->devmem.detached));
	drm_pagemap_zdd_expect_released(test, obj);
}

/*
 * Succeeds if drm_pagemap_release_flush() returns only after the release is
 * over, however long that takes, and for all that were put before.
 */
static void drm_pagemap_test_zdd_flush_waits(struct kunit *test)
{
	struct drm_pagemap_zdd_obj *objs[8];
	struct drm_pagemap_zdd *zdds[8];
	int i, round;

	for (round = 0; round < 5; round++) {
		for (i = 0; i < ARRAY_SIZE(objs); i++) {
			objs[i] = drm_pagemap_zdd_obj_new(test);
			objs[i]->sleep_ms = i % 2 ? 1 : 20;
			zdds[i] = drm_pagemap_zdd_new(test, objs[i]);
		}
		for (i = 0; i < ARRAY_SIZE(objs); i++)
			drm_pagemap_zdd_put_atomic(zdds[i], i % 2 ?
						   DRM_PAGEMAP_ZDD_SPINLOCK_IRQ_OFF :
						   DRM_PAGEMAP_ZDD_TASK);
		drm_pagemap_release_flush();
		for (i = 0; i < ARRAY_SIZE(objs); i++)
			KUNIT_EXPECT_EQ_MSG(test, atomic_read(&objs[i]->released),
					    1, "round %d object %d", round, i);
	}
}

/*
 * Succeeds if a flush with nothing to release returns.
 */
static void drm_pagemap_test_zdd_flush_nothing(struct kunit *test)
{
	struct drm_pagemap_zdd_obj *obj = drm_pagemap_zdd_obj_new(test);
	struct drm_pagemap_zdd *zdd = drm_pagemap_zdd_new(test, obj);

	drm_pagemap_release_flush();
	drm_pagemap_release_flush();
	KUNIT_EXPECT_EQ(test, atomic_read(&obj->released), 0);

	drm_pagemap_zdd_put(zdd);
	drm_pagemap_zdd_expect_released(test, obj);
}

/*
 * Succeeds if with a single reference, disarm does away with the zdd and leaves
 * the allocation to the caller: it is neither detached nor released.
 */
static void drm_pagemap_test_zdd_disarm_single(struct kunit *test)
{
	struct drm_pagemap_zdd_obj *obj = drm_pagemap_zdd_obj_new(test);
	struct drm_pagemap_zdd *zdd = drm_pagemap_zdd_new(test, obj);

	KUNIT_EXPECT_TRUE(test, drm_pagemap_zdd_disarm(zdd));
	drm_pagemap_zdd_expect_alive(test, obj);
}

/*
 * Succeeds if the allocation that disarm gave back can be used again, and is
 * released when its second zdd goes.
 */
static void drm_pagemap_test_zdd_disarm_reuse(struct kunit *test)
{
	struct drm_pagemap_zdd_obj *obj = drm_pagemap_zdd_obj_new(test);
	struct drm_pagemap_zdd *zdd = drm_pagemap_zdd_new(test, obj);

	KUNIT_EXPECT_TRUE(test, drm_pagemap_zdd_disarm(zdd));

	zdd = drm_pagemap_zdd_new(test, obj);
	drm_pagemap_zdd_expect_alive(test, obj);
	drm_pagemap_zdd_put(zdd);
	drm_pagemap_zdd_expect_released(test, obj);
}

/*
 * Succeeds if while a page holds a reference, disarm refuses and changes
 * nothing, and the allocation is released by the last put.
 */
static void drm_pagemap_test_zdd_disarm_refused(struct kunit *test)
{
	struct drm_pagemap_zdd_obj *obj = drm_pagemap_zdd_obj_new(test);
	struct drm_pagemap_zdd *zdd = drm_pagemap_zdd_new(test, obj);

	drm_pagemap_zdd_get_many(zdd, 1);
	KUNIT_EXPECT_FALSE(test, drm_pagemap_zdd_disarm(zdd));
	KUNIT_EXPECT_PTR_EQ(test, zdd->devmem, &obj->devmem);

	drm_pagemap_zdd_put(zdd);
	drm_pagemap_zdd_expect_alive(test, obj);
	drm_pagemap_zdd_put(zdd);
	drm_pagemap_zdd_expect_released(test, obj);
}

/* A thread that waits for detached and then does away with the allocation */
struct drm_pagemap_zdd_waiter {
	struct drm_pagemap_zdd_obj *obj;
	struct completion ready;
	struct completion gone;
	bool free;
};

#define DRM_PAGEMAP_ZDD_CANARY	0x5a

static int drm_pagemap_zdd_waiter_fn(void *arg)
{
	struct drm_pagemap_zdd_waiter *w = arg;

	complete(&w->ready);
	wait_for_completion(&w->obj->devmem.detached);
	if (w->free)
		kfree(w->obj);
	else
		memset(w->obj, DRM_PAGEMAP_ZDD_CANARY, sizeof(*w->obj));
	complete(&w->gone);

	return 0;
}

static void drm_pagemap_zdd_wait_round(struct kunit *test, bool free,
				       enum drm_pagemap_zdd_context context)
{
	struct drm_pagemap_zdd_waiter w = { .free = free };
	struct drm_pagemap_zdd *zdd;
	struct task_struct *task;

	init_completion(&w.ready);
	init_completion(&w.gone);
	w.obj = kmalloc(sizeof(*w.obj), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, w.obj);
	drm_pagemap_zdd_obj_init(w.obj, &drm_pagemap_zdd_ops_no_release);
	zdd = drm_pagemap_zdd_new(test, w.obj);

	task = kthread_run(drm_pagemap_zdd_waiter_fn, &w, "pagemap-waiter");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	wait_for_completion(&w.ready);

	drm_pagemap_zdd_put_in(zdd, context);
	KUNIT_ASSERT_TRUE_MSG(test, wait_for_completion_timeout(&w.gone,
								DRM_PAGEMAP_TEST_TIMEOUT),
			      "detached was not completed");
	drm_pagemap_release_flush();
	if (free)
		return;

	KUNIT_EXPECT_NULL_MSG(test, memchr_inv(w.obj, DRM_PAGEMAP_ZDD_CANARY,
					       sizeof(*w.obj)),
			      "written to after detached was completed");
	kfree(w.obj);
}

/*
 * Succeeds if without devmem_release(), the completion of detached is the last
 * the layer does with the allocation: a waiter overwrites it, or frees it
 * (which KASAN watches), at once.
 */
static void drm_pagemap_test_zdd_null_release(struct kunit *test)
{
	const struct drm_pagemap_zdd_context_param *p = test->param_value;
	int i;

	drm_pagemap_zdd_need_context(test, p->context);

	for (i = 0; i < 100; i++)
		drm_pagemap_zdd_wait_round(test, i % 2, p->context);
}

#define DRM_PAGEMAP_ZDD_THREADS	8

struct drm_pagemap_zdd_race {
	struct drm_pagemap_zdd *zdd;
	struct completion start;
	struct completion done;
	atomic_t running;
};

/* Owns one reference, takes and puts more, and puts all but its own last. */
static int drm_pagemap_zdd_race_fn(void *arg)
{
	struct drm_pagemap_zdd_race *race = arg;
	int i, k;

	wait_for_completion(&race->start);
	for (i = 1; i <= 16; i++) {
		drm_pagemap_zdd_get_many(race->zdd, i);
		for (k = 0; k < i; k++)
			drm_pagemap_zdd_put(race->zdd);
	}
	drm_pagemap_zdd_put_atomic(race->zdd, DRM_PAGEMAP_ZDD_SPINLOCK + (i & 1));
	if (atomic_dec_and_test(&race->running))
		complete(&race->done);

	return 0;
}

/*
 * Succeeds if when many threads put at once, with nobody holding a reference
 * longer than the others, the allocation is released exactly once.
 */
static void drm_pagemap_test_zdd_many_threads(struct kunit *test)
{
	struct drm_pagemap_zdd_obj *obj;
	struct drm_pagemap_zdd_race race;
	struct task_struct *task;
	int round, i, started;

	for (round = 0; round < 50; round++) {
		obj = drm_pagemap_zdd_obj_new(test);
		race.zdd = drm_pagemap_zdd_new(test, obj);
		init_completion(&race.start);
		init_completion(&race.done);
		atomic_set(&race.running, DRM_PAGEMAP_ZDD_THREADS);
		drm_pagemap_zdd_get_many(race.zdd, DRM_PAGEMAP_ZDD_THREADS);

		for (i = 0, started = 0; i < DRM_PAGEMAP_ZDD_THREADS; i++) {
			task = kthread_run(drm_pagemap_zdd_race_fn, &race,
					   "pagemap-put/%d", i);
			if (!IS_ERR(task))
				started++;
		}
		complete_all(&race.start);
		drm_pagemap_zdd_put(race.zdd);
		KUNIT_ASSERT_EQ(test, started, DRM_PAGEMAP_ZDD_THREADS);
		KUNIT_ASSERT_TRUE(test, wait_for_completion_timeout(&race.done,
								    DRM_PAGEMAP_TEST_TIMEOUT));
		drm_pagemap_zdd_expect_released(test, obj);
	}
}

/*
 * Defect: members were relied on to be zero in memory that the caller provides.
 *
 * Succeeds if drm_pagemap_devmem_init() sets every member, whatever was in the
 * memory before.
 */
static void drm_pagemap_test_zdd_init_in_garbage(struct kunit *test)
{
	static const u8 garbage[] = { 0x00, 0xff, 0x5a };
	struct drm_pagemap_devmem *devmem;
	struct drm_pagemap dpagemap = {};
	int i;

	devmem = kunit_kmalloc(test, sizeof(*devmem), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, devmem);

	for (i = 0; i < ARRAY_SIZE(garbage); i++) {
		memset(devmem, garbage[i], sizeof(*devmem));
		drm_pagemap_devmem_init(devmem, (struct device *)test,
					(struct mm_struct *)devmem,
					&drm_pagemap_zdd_ops, &dpagemap, SZ_64K);
		KUNIT_EXPECT_PTR_EQ(test, (void *)devmem->dev, (void *)test);
		KUNIT_EXPECT_PTR_EQ(test, (void *)devmem->mm, (void *)devmem);
		KUNIT_EXPECT_PTR_EQ(test, devmem->ops, &drm_pagemap_zdd_ops);
		KUNIT_EXPECT_PTR_EQ(test, devmem->dpagemap, &dpagemap);
		KUNIT_EXPECT_EQ(test, devmem->size, SZ_64K);
		KUNIT_EXPECT_FALSE(test, completion_done(&devmem->detached));
		KUNIT_EXPECT_EQ(test, devmem->timeslice_expiration, 0);
		KUNIT_EXPECT_EQ(test, devmem->flags, 0);
		KUNIT_EXPECT_EQ(test, devmem->fault_window, 0);
	}
}

static unsigned long drm_pagemap_zdd_fail_inject(enum drm_pagemap_step step,
						 unsigned long n)
{
	return step == DRM_PAGEMAP_STEP_ZDD ? 0 : n;
}

/*
 * Succeeds if a failed allocation of the zdd is reported and leaves the devmem
 * allocation alone; the next attempt works.
 */
static void drm_pagemap_test_zdd_create_fails(struct kunit *test)
{
	struct drm_pagemap_zdd_obj *obj = drm_pagemap_zdd_obj_new(test);
	struct drm_pagemap_zdd *zdd;

	kunit_activate_static_stub(test, drm_pagemap_inject,
				   drm_pagemap_zdd_fail_inject);
	zdd = drm_pagemap_zdd_create(&obj->devmem, test);
	KUNIT_EXPECT_TRUE(test, IS_ERR_OR_NULL(zdd));
	drm_pagemap_zdd_expect_alive(test, obj);

	kunit_deactivate_static_stub(test, drm_pagemap_inject);
	zdd = drm_pagemap_zdd_new(test, obj);
	drm_pagemap_zdd_put(zdd);
	drm_pagemap_zdd_expect_released(test, obj);
}

static struct kunit_case drm_pagemap_zdd_cases[] = {
	KUNIT_CASE(drm_pagemap_test_zdd_lifetime),
	KUNIT_CASE_PARAM(drm_pagemap_test_zdd_get_put_order,
			 drm_pagemap_zdd_refs_gen_params),
	KUNIT_CASE(drm_pagemap_test_zdd_get_none),
	KUNIT_CASE_PARAM(drm_pagemap_test_zdd_last_put,
			 drm_pagemap_zdd_context_gen_params),
	KUNIT_CASE(drm_pagemap_test_zdd_flush_waits),
	KUNIT_CASE(drm_pagemap_test_zdd_flush_nothing),
	KUNIT_CASE(drm_pagemap_test_zdd_disarm_single),
	KUNIT_CASE(drm_pagemap_test_zdd_disarm_reuse),
	KUNIT_CASE(drm_pagemap_test_zdd_disarm_refused),
	KUNIT_CASE_PARAM(drm_pagemap_test_zdd_null_release,
			 drm_pagemap_zdd_context_gen_params),
	KUNIT_CASE(drm_pagemap_test_zdd_many_threads),
	KUNIT_CASE(drm_pagemap_test_zdd_create_fails),
	KUNIT_CASE(drm_pagemap_test_zdd_init_in_garbage),
	{}
};

static struct kunit_suite drm_pagemap_zdd_suite = {
	.name = "drm_pagemap_zdd",
	.test_cases = drm_pagemap_zdd_cases,
};

/*
 * Merging of runs
 */

static unsigned long drm_pagemap_run_ref(const unsigned long *pfns,
					 unsigned long npages, unsigned long max)
{
	unsigned long len = 1;

	while (len < npages && len < max && pfns[len] == pfns[0] + len)
		len++;

	return len;
}

struct drm_pagemap_run_param {
	const char *name;
	unsigned long pfns[6];
	unsigned long npages;
	unsigned long max;
	unsigned long expected;
};

#define HIGH_PFN	(1UL << (BITS_PER_LONG - 13))

static const struct drm_pagemap_run_param drm_pagemap_run_params[] = {
	{ "one page", { 7, 8 }, 1, 100, 1 },
	{ "two in a row", { 7, 8, 9 }, 2, 100, 2 },
	{ "all in a row", { 7, 8, 9, 10, 11, 12 }, 6, 100, 6 },
	{ "limit cuts", { 7, 8, 9, 10, 11, 12 }, 6, 4, 4 },
	{ "limit equals run", { 7, 8, 9, 10, 20, 21 }, 6, 4, 4 },
	{ "limit above run", { 7, 8, 9, 10, 20, 21 }, 6, 5, 4 },
	{ "limit of one", { 7, 8, 9 }, 3, 1, 1 },
	{ "no limit", { 7, 8, 9 }, 3, ULONG_MAX, 3 },
	{ "gap at once", { 7, 9, 10 }, 3, 100, 1 },
	{ "same page twice", { 7, 7, 8 }, 3, 100, 1 },
	{ "descending", { 9, 8, 7 }, 3, 100, 1 },
	{ "back in step after a gap", { 7, 8, 0, 10, 11 }, 5, 100, 2 },
	{ "page 0", { 0, 1, 2, 0 }, 4, 100, 3 },
	{ "page 0 twice", { 0, 0 }, 2, 100, 1 },
	{ "high pages", { HIGH_PFN, HIGH_PFN + 1, HIGH_PFN }, 3, 100, 2 },
};

KUNIT_ARRAY_PARAM_DESC(drm_pagemap_run, drm_pagemap_run_params, name);

/*
 * Succeeds if the leading run has the length that the table says.
 */
static void drm_pagemap_test_run_table(struct kunit *test)
{
	const struct drm_pagemap_run_param *p = test->param_value;

	KUNIT_EXPECT_EQ(test, p->expected,
			drm_pagemap_run_length(p->pfns, p->npages, p->max));
}

/*
 * Succeeds if every sequence of up to six pages out of six numbers, cut at
 * every length and with every limit, gives the length of the plain loop.
 */
static void drm_pagemap_test_run_exhaustive(struct kunit *test)
{
	static const unsigned long numbers[] = { 0, 1, 2, 3, 10, 11 };
	unsigned long pfns[6], npages, max, run;
	unsigned int code, i, rest;

	for (code = 0; code < 6 * 6 * 6 * 6 * 6 * 6; code++) {
		for (i = 0, rest = code; i < 6; i++, rest /= 6)
			pfns[i] = numbers[rest % 6];

		for (npages = 1; npages <= 6; npages++) {
			for (max = 1; max <= 7; max++) {
				run = drm_pagemap_run_length(pfns, npages, max);
				if (run == drm_pagemap_run_ref(pfns, npages, max))
					continue;
				KUNIT_FAIL(test, "code %u npages %lu max %lu: %lu",
					   code, npages, max, run);
				return;
			}
		}
	}
}

/* Pages in runs of random length, as a fragmented pool gives them */
static void drm_pagemap_run_fill(struct rnd_state *rnd, unsigned long *pfns,
				 unsigned long npages)
{
	unsigned long i, left = 0, pfn = 0;

	for (i = 0; i < npages; i++) {
		if (!left--) {
			left = drm_pagemap_test_below(rnd, 40);
			pfn = drm_pagemap_test_below(rnd, 1 << 20);
		}
		pfns[i] = pfn++;
	}
}

/*
 * Succeeds if walking a fragmented array run by run covers every page exactly
 * once, each run being the longest that the plain loop finds, and nothing
 * behind the end of the array is read (which KASAN watches).
 */
static void drm_pagemap_test_run_random(struct kunit *test)
{
	unsigned long *pfns, npages, max, i, run;
	struct rnd_state rnd;
	u32 used = drm_pagemap_test_rnd(test, &rnd);
	int round;

	for (round = 0; round < 500; round++) {
		npages = 1 + drm_pagemap_test_below(&rnd, 600);
		max = 1 + drm_pagemap_test_below(&rnd, round % 2 ? 64 : 1024);
		pfns = kmalloc_array(npages, sizeof(*pfns), GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, pfns);
		drm_pagemap_run_fill(&rnd, pfns, npages);

		for (i = 0; i < npages; i += run) {
			run = drm_pagemap_run_length(pfns + i, npages - i, max);
			if (run != drm_pagemap_run_ref(pfns + i, npages - i, max))
				break;
		}
		kfree(pfns);
		KUNIT_ASSERT_EQ_MSG(test, i, npages,
				    "round %d max %lu seed %u", round, max, used);
	}
}

static struct kunit_case drm_pagemap_run_cases[] = {
	KUNIT_CASE_PARAM(drm_pagemap_test_run_table, drm_pagemap_run_gen_params),
	KUNIT_CASE(drm_pagemap_test_run_exhaustive),
	KUNIT_CASE(drm_pagemap_test_run_random),
	{}
};

static struct kunit_suite drm_pagemap_run_suite = {
	.name = "drm_pagemap_run",
	.test_cases = drm_pagemap_run_cases,
};

/*
 * Window around a fault
 */

#define PG(n)	((unsigned long)(n) * PAGE_SIZE)
/* The highest page whose end address can be told */
#define TOP	(ULONG_MAX & PAGE_MASK)

struct drm_pagemap_window_param {
	const char *name;
	unsigned long addr;
	unsigned long index;
	unsigned long npages;
	unsigned long window;
	unsigned long vm_start;
	unsigned long vm_end;
	unsigned long start;
	unsigned long end;
};

static const struct drm_pagemap_window_param drm_pagemap_window_params[] = {
	{ "whole range", PG(1003), 3, 8, 0, PG(1000), PG(1008), PG(1000), PG(1008) },
	{ "inside a page", PG(1003) + 123, 3, 8, 0, PG(1000), PG(1008), PG(1000), PG(1008) },
	{ "last byte of a page", PG(1004) - 1, 3, 8, PG(1), 0, TOP, PG(1003), PG(1004) },
	{ "one page", PG(1003), 3, 8, PG(1), PG(1000), PG(1008), PG(1003), PG(1004) },
	{ "one byte is one page", PG(1003), 3, 8, 1, PG(1000), PG(1008), PG(1003), PG(1004) },
	{ "page and a byte is two", PG(1003), 3, 8, PG(1) + 1, PG(1000), PG(1008),
	  PG(1002), PG(1004) },
	{ "aligned from range start", PG(1003), 3, 8, PG(2), PG(1000), PG(1008),
	  PG(1002), PG(1004) },
	{ "odd address of the range", PG(1004), 3, 8, PG(2), PG(1001), PG(1009),
	  PG(1003), PG(1005) },
	{ "not a power of two", PG(1004), 4, 8, PG(3), PG(1000), PG(1008),
	  PG(1003), PG(1006) },
	{ "last window is short", PG(1007), 7, 8, PG(3), PG(1000), PG(1008),
	  PG(1006), PG(1008) },
	{ "range is not a power of two", PG(1006), 6, 7, 0, PG(900), PG(1100),
	  PG(1000), PG(1007) },
	{ "as large as the range", PG(1006), 6, 8, PG(8), PG(900), PG(1100),
	  PG(1000), PG(1008) },
	{ "larger than the range", PG(1006), 6, 8, PG(9), PG(900), PG(1100),
	  PG(1000), PG(1008) },
	{ "largest window", PG(1006), 6, 8, ULONG_MAX, PG(900), PG(1100),
	  PG(1000), PG(1008) },
	{ "largest aligned window", PG(1006), 6, 8, TOP, PG(900), PG(1100),
	  PG(1000), PG(1008) },
	{ "VMA starts inside", PG(1005), 5, 8, 0, PG(1002), PG(1100), PG(1002), PG(1008) },
	{ "VMA ends inside", PG(1005), 5, 8, 0, PG(900), PG(1006), PG(1000), PG(1006) },
	{ "VMA is the page", PG(1005), 5, 8, 0, PG(1005), PG(1006), PG(1005), PG(1006) },
	{ "VMA cuts a window", PG(1005), 5, 8, PG(4), PG(1005), PG(1007), PG(1005), PG(1007) },
	{ "range of one page", PG(1005), 0, 1, 0, PG(900), PG(1100), PG(1005), PG(1006) },
	{ "first page", PG(1000), 0, 8, PG(4), PG(900), PG(1100), PG(1000), PG(1004) },
	{ "index behind the range", PG(1005), 8, 8, 0, PG(900), PG(1100), PG(1005), PG(1006) },
	{ "index far behind", PG(1005), ULONG_MAX, 8, 0, PG(900), PG(1100), PG(1005), PG(1006) },
	{ "empty range", PG(1005), 0, 0, 0, PG(900), PG(1100), PG(1005), PG(1006) },
	{ "moved to address 0", 0, 5, 8, 0, 0, PG(100), 0, PG(3) },
	{ "moved near address 0", PG(2), 5, 8, PG(4), 0, PG(100), PG(1), PG(5) },
	{ "moved near 0, large window", PG(2), 500, 512, 0, 0, PG(100), 0, PG(14) },
	{ "at the top", TOP - PG(1), 0, 512, 0, 0, TOP, TOP - PG(1), TOP },
	{ "near the top, largest window", TOP - PG(3), 1, 512, ULONG_MAX, PG(5), TOP,
	  TOP - PG(4), TOP },
	{ "whole address space", PG(1000), 1000, TOP / PAGE_SIZE, 0, 0, TOP, 0, TOP },
	{ "longest range", PG(1000), 1000, ULONG_MAX / PAGE_SIZE, ULONG_MAX, PG(7), TOP,
	  PG(7), TOP },
};

KUNIT_ARRAY_PARAM_DESC(drm_pagemap_window, drm_pagemap_window_params, name);

/*
 * Succeeds if the window is what the table says.
 */
static void drm_pagemap_test_window_table(struct kunit *test)
{
	const struct drm_pagemap_window_param *p = test->param_value;
	struct drm_pagemap_window win;

	win = drm_pagemap_fault_window(p->addr, p->index, p->npages, p->window,
				       p->vm_start, p->vm_end);
	KUNIT_EXPECT_EQ(test, win.start, p->start);
	KUNIT_EXPECT_EQ(test, win.end, p->end);
}

/* Whether the page @i of the range goes with the page @index, on its own */
static bool drm_pagemap_window_takes(const struct drm_pagemap_window_param *p,
				     long i)
{
	unsigned long step = p->window / PAGE_SIZE + !!(p->window % PAGE_SIZE);
	long page = (long)(p->addr / PAGE_SIZE) - (long)p->index + i;

	if (i < 0 || i >= (long)p->npages)
		return false;
	if (step && (unsigned long)i / step != p->index / step)
		return false;

	return page >= (long)(p->vm_start / PAGE_SIZE) &&
	       page < (long)(p->vm_end / PAGE_SIZE);
}

/* Page by page outwards from the fault, the slow way */
static void drm_pagemap_window_ref(struct drm_pagemap_window_param *p)
{
	unsigned long page = p->addr / PAGE_SIZE;
	long lo = p->index, hi = p->index;

	if (p->index < p->npages) {
		while (drm_pagemap_window_takes(p, lo - 1))
			lo--;
		while (drm_pagemap_window_takes(p, hi + 1))
			hi++;
	}
	p->start = (page - (p->index - lo)) * PAGE_SIZE;
	p->end = (page + (hi - p->index) + 1) * PAGE_SIZE;
}

static bool drm_pagemap_window_matches(struct drm_pagemap_window_param *p)
{
	struct drm_pagemap_window win;

	drm_pagemap_window_ref(p);
	win = drm_pagemap_fault_window(p->addr, p->index, p->npages, p->window,
				       p->vm_start, p->vm_end);

	return win.start == p->start && win.end == p->end;
}

static void drm_pagemap_window_fail(struct kunit *test,
				    const struct drm_pagemap_window_param *p,
				    u32 used)
{
	KUNIT_FAIL(test,
		   "addr %lx index %lu npages %lu window %lx vma %lx-%lx: not %lx-%lx, seed %u",
		   p->addr, p->index, p->npages, p->window, p->vm_start,
		   p->vm_end, p->start, p->end, used);
}

/* Every VMA around the faulting page */
static bool drm_pagemap_window_all_vmas(struct drm_pagemap_window_param *p,
					unsigned long page)
{
	unsigned long lo, hi;

	for (lo = 0; lo <= page; lo++) {
		for (hi = page + 1; hi <= 10; hi++) {
			p->vm_start = PG(lo);
			p->vm_end = PG(hi);
			if (!drm_pagemap_window_matches(p))
				return false;
		}
	}

	return true;
}

/*
 * Succeeds if for every small range, fault, window in steps of half a page, and
 * VMA around it, the window is that of the page-by-page walk.  The range lies
 * at address 0, so that it often begins below it.
 */
static void drm_pagemap_test_window_exhaustive(struct kunit *test)
{
	struct drm_pagemap_window_param p = {};
	unsigned long page, half;
	unsigned int code;

	for (code = 0; code < 6 * 8 * 16 * 8; code++) {
		p.npages = 1 + code % 6;
		p.index = code / 6 % 8;
		half = code / (6 * 8) % 16;
		page = code / (6 * 8 * 16);

		p.window = half * (PAGE_SIZE / 2);
		p.addr = PG(page) + half * 10;
		if (!drm_pagemap_window_all_vmas(&p, page)) {
			drm_pagemap_window_fail(test, &p, 0);
			return;
		}
	}
}

/*
 * Succeeds if the same holds for random ranges of up to 2048 pages anywhere,
 * and the window always contains the faulting page and stays inside the VMA.
 */
static void drm_pagemap_test_window_random(struct kunit *test)
{
	struct drm_pagemap_window_param p = {};
	struct rnd_state rnd;
	u32 used = drm_pagemap_test_rnd(test, &rnd);
	unsigned long page, last = TOP / PAGE_SIZE - 1;
	int round;

	for (round = 0; round < 20000; round++) {
		p.npages = 1 + drm_pagemap_test_below(&rnd, 2048);
		p.index = drm_pagemap_test_below(&rnd, p.npages + 3);
		p.window = drm_pagemap_test_below(&rnd, PG(p.npages) * 2);
		if (round % 7 == 0)
			p.window = 0;
		page = drm_pagemap_test_u64(&rnd) % last;
		if (round % 3 == 0)
			page = drm_pagemap_test_below(&rnd, 4096);
		else if (round % 3 == 1)
			page = last - drm_pagemap_test_below(&rnd, 4096);
		p.addr = PG(page) + drm_pagemap_test_below(&rnd, PAGE_SIZE);
		p.vm_start = PG(page - min_t(unsigned long, page,
					     drm_pagemap_test_below(&rnd, 3000)));
		p.vm_end = PG(page + 1 + min_t(unsigned long, last - page,
					       drm_pagemap_test_below(&rnd, 3000)));
		if (!drm_pagemap_window_matches(&p)) {
			drm_pagemap_window_fail(test, &p, used);
			return;
		}
		KUNIT_ASSERT_LE(test, p.start, PG(page));
		KUNIT_ASSERT_GE(test, p.end, PG(page + 1));
		KUNIT_ASSERT_GE(test, p.start, p.vm_start);
		KUNIT_ASSERT_LE(test, p.end, p.vm_end);
	}
}

/*
 * Succeeds if the windows of all pages of a range cut it into pieces that
 * neither overlap nor leave a gap: each page of a window has the same window.
 */
static void drm_pagemap_test_window_partition(struct kunit *test)
{
	const unsigned long base = PG(5000), npages = 97;
	struct drm_pagemap_window win, other;
	unsigned long step, i, k;

	for (step = 1; step <= npages + 1; step++) {
		for (i = 0; i < npages; i = (win.end - base) / PAGE_SIZE) {
			win = drm_pagemap_fault_window(base + PG(i), i, npages,
						       PG(step), 0, TOP);
			KUNIT_ASSERT_EQ(test, win.start, base + PG(i));
			for (k = i + 1; PG(k) < win.end - base; k++) {
				other = drm_pagemap_fault_window(base + PG(k), k,
								 npages, PG(step),
								 0, TOP);
				KUNIT_ASSERT_EQ(test, other.start, win.start);
				KUNIT_ASSERT_EQ(test, other.end, win.end);
			}
		}
		KUNIT_ASSERT_EQ(test, i, npages);
	}
}

static struct kunit_case drm_pagemap_window_cases[] = {
	KUNIT_CASE_PARAM(drm_pagemap_test_window_table, drm_pagemap_window_gen_params),
	KUNIT_CASE(drm_pagemap_test_window_exhaustive),
	KUNIT_CASE(drm_pagemap_test_window_random),
	KUNIT_CASE(drm_pagemap_test_window_partition),
	{}
};

static struct kunit_suite drm_pagemap_window_suite = {
	.name = "drm_pagemap_window",
	.test_cases = drm_pagemap_window_cases,
};

kunit_test_suites(&drm_pagemap_addr_suite, &drm_pagemap_zdd_suite,
		  &drm_pagemap_run_suite, &drm_pagemap_window_suite);

MODULE_DESCRIPTION("KUnit tests for DRM pagemap");
MODULE_IMPORT_NS(EXPORTED_FOR_KUNIT_TESTING);
MODULE_LICENSE("Dual MIT/GPL");
