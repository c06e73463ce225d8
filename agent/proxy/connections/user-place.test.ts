import { expect, test } from 'bun:test';
import { createTestNetwork } from '../../../tests/kit/netns.ts';
import { NetworkNamespace } from '../../native/network-namespace.ts';
import { SINGLE_USERS } from '../../subordinate-users/subordinate-users.ts';
import { OpenConnections } from './connections.ts';
import { UserPlace, type UserPlaceOptions } from './user-place.ts';

const MAX = 16;

/** How many connections of so many users have a place, each with one. */
function countPlaces(uids: readonly number[], options: UserPlaceOptions): number {
  const connections = new OpenConnections({ max: MAX, maxPerHost: MAX });
  return uids.filter((uid) => new UserPlace(connections, options).enter(uid)).length;
}

const users = Array.from({ length: 100 }, (_, n) => 100_000 + n);

test('UserPlace leaves others theirs whatever users one has, of his own or in another namespace', async () => {
  const network = await createTestNetwork(1);
  expect(countPlaces(users, { userParties: SINGLE_USERS })).toBe(MAX);
  expect(countPlaces(users, { userParties: { ...SINGLE_USERS, partyOf: () => 'users of alice' } })).toBe(
    (MAX * 3) / 4,
  );
  try {
    using namespace = NetworkNamespace.open('pods/one', `/run/netns/${network.hosts[0]?.name}`);
    expect(countPlaces(users, { userParties: SINGLE_USERS, namespace })).toBe((MAX * 3) / 4);
  } finally {
    await network.remove();
  }
});
