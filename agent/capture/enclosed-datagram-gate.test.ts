import { expect, test } from 'bun:test';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { createTestNetwork } from '../../tests/kit/netns.ts';
import { withOtherUsers } from '../../tests/kit/other-users.ts';
import { NetworkNamespace } from '../native/network-namespace.ts';
import { EnclosedDatagramGate } from './enclosed-datagram-gate.ts';

const FLOW = {
  uid: 1000,
  source: { address: '10.8.1.2', port: 5000 },
  destination: { address: '192.0.2.9', port: 9000 },
};

function findObstacle(path: string): string | undefined {
  using namespace = NetworkNamespace.open('pods/one', path);
  const gate = new EnclosedDatagramGate({
    namespace,
    mark: 1,
    isItsAddress: () => true,
    interfaces: { find: () => [7] },
    clock: new FakeClock(),
  });
  return gate.findObstacle(FLOW);
}

test('EnclosedDatagramGate lets nothing of a namespace pass whose rules know users by other numbers', async () => {
  const network = await createTestNetwork(1);
  try {
    expect(findObstacle(`/run/netns/${network.hosts[0]?.name}`)).toBeUndefined();
    await withOtherUsers((path) => {
      expect(findObstacle(path)).toContain('a user namespace of its own');
    });
  } finally {
    await network.remove();
  }
});
