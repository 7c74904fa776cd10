// SPDX-License-Identifier: GPL-2.0-only
/*
 * Clients: open files, the users that have them, whose jobs share workers, and
 * what all devices have in common.
 */

#include <linux/cpumask.h>
#include <linux/cred.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uidgid.h>
#include <linux/workqueue.h>

#include "vsvm_drv.h"

/* Least number of a user's VMs that may run or fault at a time. */
#define VSVM_MIN_WORKERS	4

static bool peers = true;
module_param(peers, bool, 0644);
MODULE_PARM_DESC(peers, "Whether devices reach each other's memory (default yes)");

static unsigned long long coherent[VSVM_MAX_DEVICES];
module_param_array(coherent, ullong, NULL, 0444);
MODULE_PARM_DESC(coherent,
		 "Of each device, physical address of memory that the CPU accesses, too, set aside by memmap=SIZE$ADDRESS (0: none)");

/* Its address is what counts. */
static char vsvm_owner_cookie;

/**
 * vsvm_owner() - The owner cookie of all device pages
 *
 * One for all devices, since they understand each other's addresses.
 *
 * Return: The cookie.
 */
void *vsvm_owner(void)
{
	return &vsvm_owner_cookie;
}

/**
 * vsvm_peers_reachable() - Whether devices reach each other's memory
 *
 * Return: False if the interconnect is switched off.
 */
bool vsvm_peers_reachable(void)
{
	return READ_ONCE(peers);
}

/**
 * vsvm_coherent() - The memory of a device that the CPU accesses, too
 * @index: Index of the device.
 *
 * Return: Its physical address, 0 if the device has private memory.
 */
u64 vsvm_coherent(unsigned int index)
{
	return coherent[index];
}

/**
 * vsvm_any_coherent() - Whether there is such memory
 *
 * Return: True if a device has some.
 */
bool vsvm_any_coherent(void)
{
	return memchr_inv(coherent, 0, sizeof(coherent));
}

/**
 * vsvm_client_create() - Make the client of an open file
 *
 * Return: The client with a reference, or NULL if there is no memory.
 */
struct vsvm_client *vsvm_client_create(void)
{
	struct vsvm_client *client;

	client = kzalloc(sizeof(*client), GFP_KERNEL_ACCOUNT);
	if (!client)
		return NULL;

	kref_init(&client->ref);
	INIT_LIST_HEAD(&client->bos);
	xa_init_flags(&client->vms, XA_FLAGS_ALLOC1 | XA_FLAGS_ACCOUNT);
	return client;
}

static void vsvm_client_release(struct kref *ref)
{
	struct vsvm_client *client = container_of(ref, struct vsvm_client, ref);

	xa_destroy(&client->vms);
	kfree(client);
}

/**
 * vsvm_client_put() - Drop a reference to a client
 * @client: The client.
 */
void vsvm_client_put(struct vsvm_client *client)
{
	kref_put(&client->ref, vsvm_client_release);
}

/*
 * Users.
 */

/**
 * struct vsvm_user - who shares workers
 * @ref: One for each VM.
 * @link: In vsvm_users.
 * @uid: The user ID.
 * @wq: The workers.
 */
struct vsvm_user {
	struct kref ref;
	struct list_head link;
	kuid_t uid;
	struct workqueue_struct *wq;
};

/* Protects the list, and the way of a reference count from zero to it. */
static DEFINE_MUTEX(vsvm_users_lock);
static LIST_HEAD(vsvm_users);

static struct vsvm_user *vsvm_user_find(kuid_t uid)
{
	struct vsvm_user *user;

	lockdep_assert_held(&vsvm_users_lock);

	list_for_each_entry(user, &vsvm_users, link)
		if (uid_eq(user->uid, uid))
			return user;
	return NULL;
}

static struct vsvm_user *vsvm_user_create(kuid_t uid)
{
	struct vsvm_user *user;

	lockdep_assert_held(&vsvm_users_lock);

	user = kzalloc(sizeof(*user), GFP_KERNEL_ACCOUNT);
	if (!user)
		return NULL;

	user->wq = alloc_workqueue("vsvm-%u", WQ_UNBOUND,
				   clamp_t(int, num_online_cpus(),
					   VSVM_MIN_WORKERS, WQ_MAX_ACTIVE),
				   from_kuid(&init_user_ns, uid));
	if (!user->wq) {
		kfree(user);
		return NULL;
	}

	kref_init(&user->ref);
	user->uid = uid;
	list_add(&user->link, &vsvm_users);
	return user;
}

/**
 * vsvm_user_get() - Find the workers of the calling user, or make them
 *
 * Return: The user with a reference, or NULL if there is no memory.
 */
struct vsvm_user *vsvm_user_get(void)
{
	struct vsvm_user *user;

	guard(mutex)(&vsvm_users_lock);
	user = vsvm_user_find(current_uid());
	if (!user)
		return vsvm_user_create(current_uid());

	kref_get(&user->ref);
	return user;
}

static void vsvm_user_release(struct kref *ref)
{
	struct vsvm_user *user = container_of(ref, struct vsvm_user, ref);

	list_del(&user->link);
	mutex_unlock(&vsvm_users_lock);

	destroy_workqueue(user->wq);
	kfree(user);
}

/**
 * vsvm_user_put() - Drop a reference to a user
 * @user: The user.
 *
 * Context: Process context, with no lock held that a worker takes.  Sleeps.
 */
void vsvm_user_put(struct vsvm_user *user)
{
	kref_put_mutex(&user->ref, vsvm_user_release, &vsvm_users_lock);
}

/**
 * vsvm_client_kick() - Have the worker of a VM look for something to do
 * @vm: The VM.
 *
 * Context: Any.
 */
void vsvm_client_kick(struct vsvm_vm *vm)
{
	queue_work(vm->user->wq, &vm->queue.work);
}
