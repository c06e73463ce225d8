import { expect, test } from 'bun:test';
import { parseSpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { makeAuthority, makeSvid, OTHER, TARGET, TestIdentities } from '../proxy/fixtures/mesh-rig.ts';
import { describeHbone } from './hbone-status.ts';

const HERE = parseSpiffeId('spiffe://td.test/ns/a/sa/b');
const ABROAD = parseSpiffeId('spiffe://istio.test/ns/a/sa/b');

test('describeHbone() tells who may be called, and which peers nobody can prove to be', async () => {
  const authority = await makeAuthority();
  const [target, other] = [await makeSvid(TARGET, authority), await makeSvid(OTHER, authority)];
  const source = new TestIdentities(target, authority);
  source.serve(target, other, target);
  const peers = [
    { addresses: ['10.0.0.1'], spiffeId: HERE },
    { addresses: ['10.0.0.2'], spiffeId: ABROAD },
  ];
  expect(describeHbone({ isAccepted: true, peers }, source)).toEqual({
    isAccepted: true,
    callable: [TARGET, OTHER].toSorted(),
    peers: 2,
    untrusted: [ABROAD],
  });
  expect(describeHbone({ isAccepted: false, peers }, undefined)).toEqual({
    isAccepted: false,
    callable: [],
    peers: 2,
    untrusted: [],
  });
});
