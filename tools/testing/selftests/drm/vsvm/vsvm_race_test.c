// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of concurrency: threads, processes and devices on the same memory,
 * memory that goes while jobs work on it, processes that end, and devices that
 * go.
 */

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>

#include "../../kselftest_harness.h"
#include "vsvm_util.h"

#define TIMEOUT		180
#define NPAGES		64
#define THREADS		4

FIXTURE(race)
{
	struct vsvm_gpu gpu;
	size_t page;
	size_t size;
	char *mem;
};

FIXTURE_SETUP(race)
{
	ASSERT_EQ(0, vsvm_gpu_open(&self->gpu, 0));
	self->page = getpagesize();
	self->size = NPAGES * self->page;
	self->mem = vsvm_alloc(self->size, self->size);
	ASSERT_NE(NULL, self->mem);
}

FIXTURE_TEARDOWN(race)
{
	munmap(self->mem, self->size);
	EXPECT_EQ(0, vsvm_wait_used(self->gpu.fd, self->gpu.stats.vram_used));
	vsvm_gpu_close(&self->gpu);
}

/* A thread with a VM of its own, and its result: an error, or zero. */
struct worker {
	pthread_t thread;
	struct vsvm_gpu gpu;
	char *mem;
	size_t size;
	size_t page;
	int index;
	int rounds;
	int error;
	atomic_bool *stop;
};

static int start_workers(struct _test_data_race *self, struct worker *worker,
			 int n, void *(*fn)(void *))
{
	int i, ret = 0;

	for (i = 0; i < n && !ret; i++) {
		worker[i] = (struct worker) {
			.mem = self->mem,
			.size = self->size,
			.page = self->page,
			.index = i,
			.rounds = 12,
			.stop = worker[i].stop,
		};
		ret = vsvm_gpu_open(&worker[i].gpu, 0);
		if (!ret)
			ret = -pthread_create(&worker[i].thread, NULL, fn,
					      &worker[i]);
	}
	return ret;
}

static int join_workers(struct worker *worker, int n)
{
	int i, ret = 0;

	for (i = 0; i < n; i++) {
		pthread_join(worker[i].thread, NULL);
		vsvm_gpu_close(&worker[i].gpu);
		if (worker[i].error)
			ret = worker[i].error;
	}
	return ret;
}

/* Each adds to the words of all, by device and by CPU. */
static void *add_all(void *arg)
{
	struct worker *w = arg;
	uint64_t *word = (uint64_t *)w->mem;
	struct drm_vsvm_op ops[8];
	size_t step = w->size / 8 / 8;
	int r, i;

	for (r = 0; r < w->rounds && !w->error; r++) {
		for (i = 0; i < 8; i++)
			ops[i] = vsvm_op_add(word + i * step, 1, NULL);
		w->error = vsvm_run(&w->gpu, ops, 8, NULL);
		for (i = 0; i < 8; i++)
			__atomic_fetch_add(word + i * step, 1 << 16,
					   __ATOMIC_RELAXED);
	}
	return NULL;
}

TEST_F_TIMEOUT(race, threads_same_pages, TIMEOUT)
{
	uint64_t *word = (uint64_t *)self->mem, total;
	struct worker worker[THREADS] = {};
	int i;

	memset(self->mem, 0, self->size);
	ASSERT_EQ(0, start_workers(self, worker, THREADS, add_all));
	EXPECT_EQ(0, join_workers(worker, THREADS));
	total = THREADS * worker[0].rounds * ((1 << 16) + 1);
	for (i = 0; i < 8; i++)
		EXPECT_EQ(total, word[i * (self->size / 8 / 8)]);
}

/* Each on every THREADS-th page, so that they share all that is larger. */
static void *own_pages(void *arg)
{
	struct worker *w = arg;
	uint64_t sum, seed;
	size_t offset;
	char *mem;
	int r;

	for (r = 0; r < w->rounds && !w->error; r++) {
		offset = (w->index + r * THREADS) * w->page % w->size;
		mem = w->mem + offset;
		seed = w->index * 1000 + r;
		vsvm_fill(mem, w->page, seed);
		w->error = vsvm_gpu_checksum(&w->gpu, mem, w->page, &sum);
		if (!w->error && sum != vsvm_checksum(mem, w->page))
			w->error = -EBADMSG;
		if (!w->error)
			w->error = vsvm_gpu_fill(&w->gpu, mem, w->page / 2,
						 seed);
		if (!w->error &&
		    vsvm_verify_value(mem, w->page / 2, seed) != -1)
			w->error = -ESTALE;
	}
	return NULL;
}

TEST_F_TIMEOUT(race, threads_own_pages, TIMEOUT)
{
	struct worker worker[THREADS] = {};

	ASSERT_EQ(0, start_workers(self, worker, THREADS, own_pages));
	EXPECT_EQ(0, join_workers(worker, THREADS));
}

/* Many threads, one VM: jobs in order, each with the result it should have. */
static void *one_vm(void *arg)
{
	struct worker *w = arg;
	char *mem = w->mem + w->index * (w->size / THREADS);
	int r;

	for (r = 0; r < w->rounds && !w->error; r++) {
		w->error = vsvm_gpu_fill(&w->gpu, mem, w->size / THREADS, r);
		if (!w->error &&
		    vsvm_verify_value(mem, w->size / THREADS, r) != -1)
			w->error = -ESTALE;
	}
	return NULL;
}

TEST_F_TIMEOUT(race, threads_one_vm, TIMEOUT)
{
	struct worker worker[THREADS] = {};
	int i;

	for (i = 0; i < THREADS; i++) {
		worker[i] = (struct worker) {
			.gpu = self->gpu,
			.mem = self->mem,
			.size = self->size,
			.page = self->page,
			.index = i,
			.rounds = 8,
		};
		ASSERT_EQ(0, pthread_create(&worker[i].thread, NULL, one_vm,
					    &worker[i]));
	}
	for (i = 0; i < THREADS; i++) {
		pthread_join(worker[i].thread, NULL);
		EXPECT_EQ(0, worker[i].error);
	}
}

/* All CPUs fault on the same page, which each time is on the device. */
static void *read_page(void *arg)
{
	struct worker *w = arg;
	int r;

	for (r = 0; r < 200 && !w->error; r++)
		if (vsvm_verify(w->mem, w->page, 1) != -1)
			w->error = -ESTALE;
	return NULL;
}

TEST_F_TIMEOUT(race, threads_read_one_page, TIMEOUT)
{
	struct worker worker[THREADS] = {};
	uint64_t sum;
	int i;

	vsvm_fill(self->mem, self->page, 1);
	ASSERT_EQ(0, start_workers(self, worker, THREADS, read_page));
	for (i = 0; i < 20; i++)
		EXPECT_EQ(0, vsvm_gpu_checksum(&self->gpu, self->mem,
					       self->page, &sum));
	EXPECT_EQ(0, join_workers(worker, THREADS));
	EXPECT_EQ(vsvm_checksum(self->mem, self->page), sum);
}

/* Processes that share the memory from fork() on, and each change their own. */
static int child_work(struct _test_data_race *self, uint64_t seed)
{
	size_t half = self->size / 2;
	int r;

	if (vsvm_gpu_open(&self->gpu, 0))
		return 1;
	for (r = 0; r < 6; r++) {
		if (vsvm_verify(self->mem, half, 1) != -1)
			return 2;
		if (vsvm_gpu_copy(&self->gpu, self->mem + half, self->mem,
				  half))
			return 3;
		if (vsvm_verify(self->mem + half, half, 1) != -1)
			return 4;
		vsvm_fill(self->mem + half, half, seed + r);
		if (vsvm_verify(self->mem + half, half, seed + r) != -1)
			return 5;
	}
	return 0;
}

TEST_F_TIMEOUT(race, processes, TIMEOUT)
{
	pid_t pid[THREADS];
	int i;

	vsvm_fill(self->mem, self->size, 1);
	ASSERT_EQ(0, vsvm_prefetch(&self->gpu, self->mem, self->size,
				   DRM_VSVM_PLACE_DEVICE));
	for (i = 0; i < THREADS; i++) {
		pid[i] = fork();
		if (!pid[i])
			_exit(child_work(self, 10 * i));
	}
	for (i = 0; i < THREADS; i++)
		EXPECT_EQ(0, vsvm_wait_child(pid[i]));
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
}

/* Processes, CPUs and device add to the same words of shared memory. */
TEST_F_TIMEOUT(race, processes_shared_memory, TIMEOUT)
{
	struct worker worker = { .size = self->size, .rounds = 12 };
	uint64_t total, *word;
	pid_t pid[THREADS];
	int i;

	worker.mem = mmap(NULL, self->size, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)worker.mem);
	for (i = 0; i < THREADS; i++) {
		pid[i] = fork();
		if (pid[i])
			continue;
		if (vsvm_gpu_open(&worker.gpu, 0))
			_exit(1);
		add_all(&worker);
		_exit(worker.error ? 2 : 0);
	}
	for (i = 0; i < THREADS; i++)
		EXPECT_EQ(0, vsvm_wait_child(pid[i]));
	word = (uint64_t *)worker.mem;
	total = THREADS * worker.rounds * ((1 << 16) + 1);
	for (i = 0; i < 8; i++)
		EXPECT_EQ(total, word[i * (self->size / 8 / 8)]);
	munmap(worker.mem, self->size);
}

/* Forks all the time while the device writes. */
TEST_F_TIMEOUT(race, fork_during_jobs, TIMEOUT)
{
	struct drm_vsvm_op ops[8];
	uint64_t round;
	pid_t pid;
	int i;

	for (round = 1; round <= 10; round++) {
		for (i = 0; i < 8; i++)
			ops[i] = vsvm_op_fill(self->mem + i * self->size / 8,
					      self->size / 8, round);
		ASSERT_EQ(0, vsvm_exec(&self->gpu, ops, 8, NULL, 0, NULL));
		pid = fork();
		if (!pid) {
			/* Each word is of this round, or the one before. */
			uint64_t *word = (uint64_t *)self->mem;
			size_t n = self->size / 8, k;

			for (k = 0; k < n; k++)
				if (word[k] != round && word[k] != round - 1)
					_exit(1);
			/* And does not change any more. */
			vsvm_fill(self->mem, self->size, round);
			usleep(2000);
			_exit(vsvm_verify(self->mem, self->size, round) != -1);
		}
		ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, 8, round));
		EXPECT_EQ(0, vsvm_wait_child(pid));
		EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, round));
	}
}

/*
 * Memory that goes and comes while jobs write to it.  A job may fail for a page
 * that is not mapped.
 */

static struct drm_vsvm_sync wait_all(struct vsvm_gpu *gpu)
{
	struct drm_vsvm_sync sync = { .flags = DRM_VSVM_SYNC_SIGNAL };

	vsvm_syncobj_create(gpu->fd, &sync.handle);
	return sync;
}

TEST_F_TIMEOUT(race, munmap_during_job, TIMEOUT)
{
	size_t a = self->size / 4, b = self->size / 2;
	struct drm_vsvm_sync sync = wait_all(&self->gpu);
	struct drm_vsvm_job_status st;
	struct drm_vsvm_op op[4];
	uint64_t job, round;
	int i;

	for (round = 1; round <= 20; round++) {
		for (i = 0; i < 4; i++)
			op[i] = vsvm_op_fill(self->mem, self->size, round);
		ASSERT_EQ(0, vsvm_exec(&self->gpu, op, 4, &sync, 1, &job));
		if (round & 1)
			usleep(round * 100);
		ASSERT_EQ(0, munmap(self->mem + a, b - a));
		ASSERT_EQ(0, vsvm_syncobj_wait(self->gpu.fd, sync.handle, 0,
					       VSVM_WAIT_MS));
		ASSERT_EQ(0, vsvm_job_status(&self->gpu, job, &st));
		if (st.error) {
			EXPECT_EQ(EFAULT, st.error);
			EXPECT_LE((uintptr_t)self->mem + a, st.address);
			EXPECT_GT((uintptr_t)self->mem + b, st.address);
		}
		ASSERT_EQ(self->mem + a,
			  mmap(self->mem + a, b - a, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
		EXPECT_EQ(-1, vsvm_verify_value(self->mem, a, round));
		EXPECT_EQ(-1, vsvm_verify_value(self->mem + a, b - a, 0));
	}
}

TEST_F_TIMEOUT(race, mremap_during_job, TIMEOUT)
{
	struct drm_vsvm_sync sync = wait_all(&self->gpu);
	char *place[2] = { self->mem, vsvm_alloc(self->size, self->page) };
	struct drm_vsvm_job_status st;
	struct drm_vsvm_op op[4];
	uint64_t job, round;
	char *from, *to;
	int i;

	ASSERT_NE(NULL, place[1]);
	munmap(place[1], self->size);
	vsvm_fill(self->mem, self->size, 1);
	self->gpu.result[0] = 0;
	for (round = 0; round < 20; round++) {
		from = place[round & 1];
		to = place[!(round & 1)];
		/* Reads and writes, and changes nothing: the factor is zero. */
		for (i = 0; i < 4; i++)
			op[i] = vsvm_op_muladd(from, from, self->gpu.result,
					       self->size);
		ASSERT_EQ(0, vsvm_exec(&self->gpu, op, 4, &sync, 1, &job));
		if (round & 1)
			usleep(round * 100);
		ASSERT_EQ(to, mremap(from, self->size, self->size,
				     MREMAP_MAYMOVE | MREMAP_FIXED, to));
		ASSERT_EQ(0, vsvm_syncobj_wait(self->gpu.fd, sync.handle, 0,
					       VSVM_WAIT_MS));
		ASSERT_EQ(0, vsvm_job_status(&self->gpu, job, &st));
		EXPECT_TRUE(!st.error || st.error == EFAULT);
		EXPECT_EQ(-1, vsvm_verify(to, self->size, 1));
	}
}

/* Every word that a discard leaves is the last one written, or zero. */
TEST_F_TIMEOUT(race, dontneed_during_job, TIMEOUT)
{
	struct drm_vsvm_sync sync = wait_all(&self->gpu);
	struct drm_vsvm_job_status st;
	uint64_t job, round, *word;
	struct drm_vsvm_op op[4];
	size_t i, bad;

	for (round = 1; round <= 20; round++) {
		for (i = 0; i < 4; i++)
			op[i] = vsvm_op_fill(self->mem, self->size, round);
		ASSERT_EQ(0, vsvm_exec(&self->gpu, op, 4, &sync, 1, &job));
		ASSERT_EQ(0, madvise(self->mem, self->size, MADV_DONTNEED));
		ASSERT_EQ(0, madvise(self->mem, self->size, MADV_PAGEOUT));
		ASSERT_EQ(0, vsvm_syncobj_wait(self->gpu.fd, sync.handle, 0,
					       VSVM_WAIT_MS));
		ASSERT_EQ(0, vsvm_job_status(&self->gpu, job, &st));
		EXPECT_EQ(0, st.error);
		word = (uint64_t *)self->mem;
		for (i = 0, bad = 0; i < self->size / 8; i++)
			bad += word[i] && word[i] != round;
		EXPECT_EQ(0, bad);
	}
}

/*
 * Discards that come between a fault's look at the pages of the process and the
 * page table of the device.  None leaves the device with a page that is not the
 * process's any more: a later write of the device, when all is quiet, arrives.
 */
TEST_F_TIMEOUT(race, dontneed_during_fault, TIMEOUT)
{
	struct drm_vsvm_sync sync = wait_all(&self->gpu);
	double end = vsvm_now_ms() + 10000;
	struct drm_vsvm_op op[4];
	int i, ret, discards;
	uint64_t round;

	/* One half faults on RAM, the other one migrates to the device. */
	ASSERT_EQ(0, vsvm_advise(&self->gpu, self->mem, self->size / 2,
				 DRM_VSVM_ADVICE_SYSTEM));
	for (round = 1; round <= 200 &&
	     (round <= 3 || vsvm_now_ms() < end); round++) {
		for (i = 0; i < 4; i++)
			op[i] = vsvm_op_fill(self->mem, self->size, round);
		ASSERT_EQ(0, vsvm_exec(&self->gpu, op, 4, &sync, 1, NULL));
		ret = -ETIME;
		/* A slow kernel would never get through an endless storm. */
		for (discards = 0; ret == -ETIME && discards < 1000; discards++) {
			ASSERT_EQ(0, madvise(self->mem, self->size,
					     MADV_DONTNEED));
			ret = vsvm_syncobj_wait(self->gpu.fd, sync.handle, 0,
						0);
		}
		if (ret == -ETIME)
			ret = vsvm_syncobj_wait(self->gpu.fd, sync.handle, 0,
						VSVM_WAIT_MS);
		ASSERT_EQ(0, ret);
		ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size,
					   round + 1000));
		ASSERT_EQ(-1, vsvm_verify_value(self->mem, self->size,
						round + 1000));
	}
}

TEST_F_TIMEOUT(race, mprotect_during_job, TIMEOUT)
{
	struct drm_vsvm_sync sync = wait_all(&self->gpu);
	struct drm_vsvm_job_status st;
	struct drm_vsvm_op op[4];
	uint64_t job, round, sum, *word;
	size_t i, bad;

	for (round = 1; round <= 20; round++) {
		for (i = 0; i < 4; i++)
			op[i] = vsvm_op_fill(self->mem, self->size, round);
		ASSERT_EQ(0, vsvm_exec(&self->gpu, op, 4, &sync, 1, &job));
		if (round & 1)
			usleep(round * 100);
		ASSERT_EQ(0, mprotect(self->mem, self->size, PROT_READ));
		/* There are no more writes from now on. */
		word = (uint64_t *)self->mem;
		sum = vsvm_checksum(self->mem, self->size);
		ASSERT_EQ(0, vsvm_syncobj_wait(self->gpu.fd, sync.handle, 0,
					       VSVM_WAIT_MS));
		EXPECT_EQ(sum, vsvm_checksum(self->mem, self->size));
		ASSERT_EQ(0, vsvm_job_status(&self->gpu, job, &st));
		EXPECT_TRUE(!st.error || st.error == EACCES);
		for (i = 0, bad = 0; i < self->size / 8; i++)
			bad += word[i] > round;
		EXPECT_EQ(0, bad);
		ASSERT_EQ(0, mprotect(self->mem, self->size,
				      PROT_READ | PROT_WRITE));
	}
}

struct storm {
	pthread_t thread;
	char *mem;
	size_t size;
	atomic_ulong rounds;
	atomic_bool stop;
};

static void *discard_all_the_time(void *arg)
{
	struct storm *storm = arg;

	while (!atomic_load(&storm->stop)) {
		madvise(storm->mem, storm->size, MADV_DONTNEED);
		atomic_fetch_add(&storm->rounds, 1);
	}
	return NULL;
}

/* Until one that began after this was called is over. */
static void wait_for_storm(struct storm *storm)
{
	unsigned long rounds = atomic_load(&storm->rounds);

	while (atomic_load(&storm->rounds) - rounds < 2)
		sched_yield();
}

/*
 * The pages mapped together change faster than they can be mapped, but not the
 * page that is needed: in the end it is mapped alone, and changes of the others
 * are no reason for a fault any more.  Only if pages are large, a range has so
 * few that all of them may be mapped in between, each time.
 */
TEST_F_TIMEOUT(race, neighbours_change_all_the_time, TIMEOUT)
{
	bool few = self->page > 4096;
	double end = vsvm_now_ms() + (few ? 30 : TIMEOUT - 30) * 1000.0;
	size_t size = 512 * self->page;
	struct drm_vsvm_stats before = {}, after = {};
	struct storm storm = {};
	uint64_t round = 0;
	uint64_t *mem;
	int ret;

	mem = vsvm_alloc(size, size);
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, vsvm_advise(&self->gpu, mem, size,
				 DRM_VSVM_ADVICE_SYSTEM));
	storm.mem = (char *)mem + self->page;
	storm.size = size - self->page;
	ASSERT_EQ(0, pthread_create(&storm.thread, NULL, discard_all_the_time,
				    &storm));
	do {
		wait_for_storm(&storm);
		ret = vsvm_stats(self->gpu.fd, &before);
		if (!ret)
			ret = vsvm_gpu_fill(&self->gpu, mem, self->page,
					    ++round);
		if (!ret)
			ret = vsvm_stats(self->gpu.fd, &after);
	} while (!ret && after.gpu_faults != before.gpu_faults &&
		 vsvm_now_ms() < end);
	atomic_store(&storm.stop, true);
	ASSERT_EQ(0, pthread_join(storm.thread, NULL));
	EXPECT_EQ(0, ret);
	EXPECT_EQ(-1, vsvm_verify_value(mem, self->page, round));
	if (!few) {
		EXPECT_EQ(before.gpu_faults, after.gpu_faults);
	} else if (after.gpu_faults != before.gpu_faults) {
		TH_LOG("%llu times, all pages were mapped in time",
		       (unsigned long long)round);
	}
	munmap(mem, size);
}

/*
 * Processes that end.
 */

static void queue_work(struct _test_data_race *self)
{
	struct drm_vsvm_op op[8];
	int i;

	if (vsvm_gpu_open(&self->gpu, 0))
		_exit(1);
	for (i = 0; i < 8; i++)
		op[i] = vsvm_op_fill(self->mem, self->size, i);
	for (i = 0; i < 8; i++)
		if (vsvm_exec(&self->gpu, op, 8, NULL, 0, NULL))
			_exit(2);
}

TEST_F_TIMEOUT(race, exit_during_jobs, TIMEOUT)
{
	pid_t pid;
	int i;

	vsvm_fill(self->mem, self->size, 1);
	for (i = 0; i < 6; i++) {
		pid = fork();
		if (!pid) {
			queue_work(self);
			/* exec() gives the memory up before the file. */
			if (i & 1)
				execl("/bin/true", "true", NULL);
			_exit(i & 1);
		}
		EXPECT_EQ(0, vsvm_wait_child(pid));
	}
	EXPECT_EQ(0, vsvm_gpu_copy(&self->gpu, self->mem + self->size / 2,
				   self->mem, self->size / 2));
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size / 2, 1));
}

TEST_F_TIMEOUT(race, kill_during_jobs, TIMEOUT)
{
	int i, pipes[2];
	char byte = 0;
	pid_t pid;

	vsvm_fill(self->mem, self->size, 1);
	ASSERT_EQ(0, pipe(pipes));
	for (i = 0; i < 6; i++) {
		pid = fork();
		if (!pid) {
			queue_work(self);
			if (write(pipes[1], &byte, 1) != 1)
				_exit(3);
			for (;;) {
				vsvm_gpu_close(&self->gpu);
				queue_work(self);
			}
		}
		ASSERT_EQ(1, read(pipes[0], &byte, 1));
		usleep(i * 500);
		ASSERT_EQ(0, kill(pid, SIGKILL));
		EXPECT_EQ(SIGKILL, vsvm_wait_child(pid));
	}
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
}

/* Prefetch with the longest timeslice, and have the CPU wait for its end. */
static void sleep_in_fault(struct _test_data_race *self, int ready)
{
	struct drm_vsvm_prefetch args = {
		.start = (uintptr_t)self->mem,
		.size = self->size,
		.place = DRM_VSVM_PLACE_DEVICE,
		.timeslice_ms = self->gpu.query.max_timeslice_ms,
	};
	char byte = 0;

	if (vsvm_gpu_open(&self->gpu, 0))
		_exit(1);
	args.vm_id = self->gpu.vm;
	if (vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_PREFETCH, &args))
		_exit(2);
	if (write(ready, &byte, 1) != 1)
		_exit(3);
	vsvm_touch(self->mem);
	_exit(4);
}

TEST_F_TIMEOUT(race, kill_during_timeslice, TIMEOUT)
{
	int ready[2];
	double began;
	pid_t pid;
	char byte;

	if (vsvm_coherent(&self->gpu))
		SKIP(return, "the CPU accesses device memory in place");

	ASSERT_EQ(0, pipe(ready));
	pid = fork();
	if (!pid)
		sleep_in_fault(self, ready[1]);
	close(ready[1]);
	ASSERT_EQ(1, read(ready[0], &byte, 1));
	usleep(200 * 1000);
	began = vsvm_now_ms();
	ASSERT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(SIGKILL, vsvm_wait_child(pid));
	/* A process that is killed does not have to wait. */
	EXPECT_GT(self->gpu.query.max_timeslice_ms / 2, vsvm_now_ms() - began);
	close(ready[0]);
}

/* The file goes, the process and its memory stay. */
TEST_F_TIMEOUT(race, close_during_jobs, TIMEOUT)
{
	struct drm_vsvm_op op[8];
	struct vsvm_gpu gpu;
	int i, r;

	memset(self->mem, 0, self->size);
	for (r = 0; r < 6; r++) {
		ASSERT_EQ(0, vsvm_gpu_open(&gpu, 0));
		for (i = 0; i < 8; i++)
			op[i] = vsvm_op_fill(self->mem, self->size, i + 1);
		for (i = 0; i < 4; i++)
			ASSERT_EQ(0, vsvm_exec(&gpu, op, 8, NULL, 0, NULL));
		vsvm_gpu_close(&gpu);
		/* There are no more writes to it from here on. */
		vsvm_fill(self->mem, self->size, r);
		usleep(2000);
		EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, r));
	}
}

/* A VM that a thread destroys, and how that went */
struct end {
	struct vsvm_gpu *gpu;
	double took;
	int error;
	atomic_bool over;
};

static void *destroy_vm(void *arg)
{
	struct end *end = arg;
	double began = vsvm_now_ms();

	end->error = vsvm_vm_destroy(end->gpu->fd, end->gpu->vm);
	end->took = vsvm_now_ms() - began;
	atomic_store(&end->over, true);
	return NULL;
}

/*
 * A VM cannot let go of memory while some of it is being discarded, which threads
 * can see to for long.  Nobody else has to wait for that.
 */
TEST_F_TIMEOUT(race, destroy_in_a_storm, TIMEOUT)
{
	const size_t step = 2UL << 20, size = 256 * step;
	struct end end = { .gpu = &self->gpu };
	char *mem = vsvm_alloc(size, step);
	double began, most = 0;
	unsigned int round;
	pthread_t destroy;
	uint32_t vm;
	size_t i;
	int fd;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, vsvm_no_huge(mem, size));
	/* Page tables, which take time to go through */
	for (i = 0; i < size; i += step)
		mem[i] = 1;
	fd = vsvm_open(0);
	ASSERT_LE(0, fd);

	for (round = 0; round < 20 && end.took < 500; round++) {
		struct storm storm[THREADS] = {};

		ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, mem, self->page, 1));
		for (i = 0; i < THREADS; i++) {
			storm[i].mem = mem;
			storm[i].size = size;
			ASSERT_EQ(0, pthread_create(&storm[i].thread, NULL,
						    discard_all_the_time,
						    &storm[i]));
		}
		usleep(20000);
		atomic_store(&end.over, false);
		ASSERT_EQ(0, pthread_create(&destroy, NULL, destroy_vm, &end));
		for (most = 0; !atomic_load(&end.over);) {
			began = vsvm_now_ms();
			ASSERT_EQ(0, vsvm_vm_create(fd, &vm));
			ASSERT_EQ(0, vsvm_vm_destroy(fd, vm));
			if (vsvm_now_ms() - began > most)
				most = vsvm_now_ms() - began;
		}
		for (i = 0; i < THREADS; i++)
			atomic_store(&storm[i].stop, true);
		for (i = 0; i < THREADS; i++)
			pthread_join(storm[i].thread, NULL);
		pthread_join(destroy, NULL);
		ASSERT_EQ(0, end.error);
		ASSERT_EQ(0, vsvm_vm_create(self->gpu.fd, &self->gpu.vm));
	}
	TH_LOG("it took %.0f ms, for others %.0f ms", end.took, most);
	if (end.took >= 500)
		EXPECT_GT(end.took / 2, most);

	close(fd);
	munmap(mem, size);
}

/*
 * Devices that go, in each state, and come back.
 */

FIXTURE(unplug)
{
	struct vsvm_gpu gpu;
	size_t page;
	size_t size;
	char *mem;
};

FIXTURE_SETUP(unplug)
{
	ASSERT_EQ(0, vsvm_gpu_open(&self->gpu, 0));
	self->page = getpagesize();
	self->size = NPAGES * self->page;
	self->mem = vsvm_alloc(self->size, self->size);
	ASSERT_NE(NULL, self->mem);
	vsvm_fill(self->mem, self->size, 1);
}

/* It works again, and all its memory is free. */
FIXTURE_TEARDOWN(unplug)
{
	struct drm_vsvm_stats stats;
	struct vsvm_gpu gpu;

	vsvm_gpu_close(&self->gpu);
	vsvm_bind(0, true);
	ASSERT_EQ(0, vsvm_gpu_open(&gpu, 0));
	ASSERT_EQ(0, vsvm_stats(gpu.fd, &stats));
	EXPECT_EQ(0ULL, stats.vram_used);
	EXPECT_EQ(0, vsvm_gpu_fill(&gpu, self->mem, self->size, 99));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, 99));
	munmap(self->mem, self->size);
	EXPECT_EQ(0, vsvm_wait_used(gpu.fd, 0));
	vsvm_gpu_close(&gpu);
}

TEST_F_TIMEOUT(unplug, idle, TIMEOUT)
{
	ASSERT_EQ(0, vsvm_bind(0, false));
	EXPECT_EQ(-ENODEV, vsvm_gpu_fill(&self->gpu, self->mem, 8, 1));
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
}

TEST_F_TIMEOUT(unplug, resident, TIMEOUT)
{
	uint64_t sum;

	ASSERT_EQ(0, vsvm_gpu_checksum(&self->gpu, self->mem, self->size,
				       &sum));
	EXPECT_EQ(NPAGES, vsvm_count(&self->gpu, self->mem, self->size,
				     DRM_VSVM_PLACE_DEVICE));
	ASSERT_EQ(0, vsvm_bind(0, false));
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
	EXPECT_EQ(sum, vsvm_checksum(self->mem, self->size));
}

/* Memory of a child, of which no file is left. */
TEST_F_TIMEOUT(unplug, resident_in_child, TIMEOUT)
{
	int pipes[2], ready[2];
	char byte = 0;
	pid_t pid;

	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(0, pipe(ready));
	pid = fork();
	if (!pid) {
		close(pipes[1]);
		close(ready[0]);
		if (vsvm_gpu_open(&self->gpu, 0) ||
		    vsvm_gpu_fill(&self->gpu, self->mem, self->size / 2, 7))
			_exit(1);
		vsvm_gpu_close(&self->gpu);
		if (write(ready[1], &byte, 1) != 1 ||
		    read(pipes[0], &byte, 1) != 1)
			_exit(2);
		if (vsvm_verify_value(self->mem, self->size / 2, 7) != -1)
			_exit(3);
		_exit(0);
	}
	close(ready[1]);
	ASSERT_EQ(1, read(ready[0], &byte, 1));
	ASSERT_EQ(0, vsvm_bind(0, false));
	ASSERT_EQ(1, write(pipes[1], &byte, 1));
	EXPECT_EQ(0, vsvm_wait_child(pid));
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
}

/*
 * Jobs that never started end with an error, and wake all that wait for them.
 */
TEST_F_TIMEOUT(unplug, jobs_queued, TIMEOUT)
{
	struct drm_vsvm_sync sync[2] = {};
	struct drm_vsvm_op op = vsvm_op_fill(self->mem, self->size, 2);
	int timeline = vsvm_sw_sync_open();
	int file;

	ASSERT_LE(0, timeline);
	ASSERT_EQ(0, vsvm_syncobj_create(self->gpu.fd, &sync[0].handle));
	ASSERT_EQ(0, vsvm_syncobj_create(self->gpu.fd, &sync[1].handle));
	ASSERT_EQ(0, vsvm_sw_sync_import(timeline, 1, self->gpu.fd,
					 sync[0].handle));
	sync[1].flags = DRM_VSVM_SYNC_SIGNAL;
	ASSERT_EQ(0, vsvm_exec(&self->gpu, &op, 1, sync, 2, NULL));
	ASSERT_EQ(0, vsvm_exec(&self->gpu, &op, 1, NULL, 0, NULL));
	file = vsvm_syncobj_export(self->gpu.fd, sync[1].handle, 0);
	ASSERT_LE(0, file);
	EXPECT_EQ(0, vsvm_sync_file_status(file));

	ASSERT_EQ(0, vsvm_bind(0, false));
	EXPECT_EQ(-ENODEV, vsvm_sync_file_wait(file, VSVM_WAIT_MS));
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
	ASSERT_EQ(0, vsvm_sw_sync_signal(timeline, 1));
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
	close(file);
	close(timeline);
}

static void *keep_faulting(void *arg)
{
	struct worker *w = arg;
	uint64_t seed = 10 * (w->index + 1);
	int ret = 0;

	while (!atomic_load(w->stop)) {
		ret = vsvm_gpu_fill(&w->gpu, w->mem, w->size, ++seed);
		if (ret)
			break;
		if (vsvm_verify_value(w->mem, w->size, seed) != -1) {
			w->error = -ESTALE;
			break;
		}
		vsvm_prefetch(&w->gpu, w->mem, w->size, DRM_VSVM_PLACE_DEVICE);
	}
	/* The only allowed result. */
	if (!w->error && ret && ret != -ENODEV && ret != ENODEV)
		w->error = ret;
	return NULL;
}

/* The device goes after @ms, and the workers end by themselves. */
static void unplug_during(struct __test_metadata *_metadata,
			  struct worker *worker, unsigned int ms)
{
	int i, ret;

	usleep(ms * 1000);
	ret = vsvm_bind(0, false);
	EXPECT_EQ(0, ret);
	if (ret)
		atomic_store(worker->stop, true);
	for (i = 0; i < THREADS; i++) {
		pthread_join(worker[i].thread, NULL);
		EXPECT_EQ(0, worker[i].error) {
			TH_LOG("thread %d", i);
		}
		vsvm_gpu_close(&worker[i].gpu);
	}
}

TEST_F_TIMEOUT(unplug, during_faults, TIMEOUT)
{
	struct worker worker[THREADS];
	atomic_bool stop = false;
	int i;

	for (i = 0; i < THREADS; i++) {
		worker[i] = (struct worker) {
			.mem = self->mem + i * self->size / THREADS,
			.size = self->size / THREADS,
			.index = i,
			.stop = &stop,
		};
		ASSERT_EQ(0, vsvm_gpu_open(&worker[i].gpu, 0));
		ASSERT_EQ(0, pthread_create(&worker[i].thread, NULL,
					    keep_faulting, &worker[i]));
	}
	unplug_during(_metadata, worker, 300);
}

static void *keep_evicting(void *arg)
{
	struct worker *w = arg;
	struct drm_vsvm_prefetch args = {
		.vm_id = w->gpu.vm,
		.start = (uintptr_t)w->mem,
		.size = w->size,
		.place = DRM_VSVM_PLACE_DEVICE,
		.flags = DRM_VSVM_PREFETCH_PARTIAL,
	};
	int ret = 0;

	while (!atomic_load(w->stop) && (!ret || ret == -ENOSPC)) {
		ret = vsvm_ioctl(w->gpu.fd, DRM_IOCTL_VSVM_PREFETCH, &args);
		vsvm_touch(w->mem + w->size / 2);
	}
	/* The only way this may end. */
	if (ret && ret != -ENOSPC && ret != -ENODEV)
		w->error = ret;
	return NULL;
}

/* Threads that take the memory of the device from each other. */
TEST_F_TIMEOUT(unplug, during_eviction, TIMEOUT)
{
	size_t size = self->gpu.query.vram_size * 3 / 4;
	struct worker worker[THREADS];
	atomic_bool stop = false;
	int i;

	for (i = 0; i < THREADS; i++) {
		worker[i] = (struct worker) {
			.mem = vsvm_alloc(size, self->gpu.query.chunk_size),
			.size = size,
			.index = i,
			.stop = &stop,
		};
		ASSERT_NE(NULL, worker[i].mem);
		vsvm_fill(worker[i].mem, size, i + 2);
		ASSERT_EQ(0, vsvm_gpu_open(&worker[i].gpu, 0));
		ASSERT_EQ(0, pthread_create(&worker[i].thread, NULL,
					    keep_evicting, &worker[i]));
	}
	unplug_during(_metadata, worker, 500);
	for (i = 0; i < THREADS; i++) {
		EXPECT_EQ(-1, vsvm_verify(worker[i].mem, size, i + 2));
		munmap(worker[i].mem, size);
	}
}

/* The peer goes whose memory a device has mapped. */
TEST_F_TIMEOUT(unplug, peer, TIMEOUT)
{
	struct vsvm_gpu second;
	uint64_t sum;
	int ret;

	ret = vsvm_gpu_open(&second, 1);
	if (ret == -ENODEV)
		SKIP(return, "one device only");
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, vsvm_prefetch(&self->gpu, self->mem, self->size,
				   DRM_VSVM_PLACE_DEVICE));
	ASSERT_EQ(0, vsvm_gpu_checksum(&second, self->mem, self->size, &sum));
	EXPECT_EQ(NPAGES, vsvm_count(&second, self->mem, self->size,
				     DRM_VSVM_PLACE_PEER));
	ASSERT_EQ(0, vsvm_bind(0, false));
	EXPECT_EQ(NPAGES, vsvm_count(&second, self->mem, self->size,
				     DRM_VSVM_PLACE_SYSTEM));
	ASSERT_EQ(0, vsvm_gpu_checksum(&second, self->mem, self->size, &sum));
	EXPECT_EQ(vsvm_checksum(self->mem, self->size), sum);
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
	vsvm_gpu_close(&second);
}

/* Away and back, many times, while a process uses the other device. */
TEST_F_TIMEOUT(unplug, again_and_again, TIMEOUT)
{
	struct vsvm_gpu second;
	struct vsvm_gpu gpu;
	uint64_t i;
	int ret;

	ret = vsvm_gpu_open(&second, 1);
	if (ret == -ENODEV)
		SKIP(return, "one device only");
	ASSERT_EQ(0, ret);
	vsvm_gpu_close(&self->gpu);
	for (i = 1; i <= 6; i++) {
		ASSERT_EQ(0, vsvm_gpu_open(&gpu, 0));
		ASSERT_EQ(0, vsvm_gpu_fill(&gpu, self->mem, self->size, i));
		ASSERT_EQ(0, vsvm_gpu_fill(&second, self->mem, self->size / 2,
					   i + 100));
		ASSERT_EQ(0, vsvm_bind(0, false));
		vsvm_gpu_close(&gpu);
		EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size / 2,
						i + 100));
		EXPECT_EQ(-1, vsvm_verify_value(self->mem + self->size / 2,
						self->size / 2, i));
		ASSERT_EQ(0, vsvm_bind(0, true));
	}
	vsvm_gpu_close(&second);
}

TEST_HARNESS_MAIN
