import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { openTpmDevice } from '../../agent/node-attestation/open-tpm-device.ts';
import { TpmClient } from '../../agent/node-attestation/tpm-client.ts';
import { describeNodeAttestor } from '../../server/node-attestation/contract.ts';
import { systemClock } from '../../shared/runtime/clock.ts';
import { parseSelector } from '../../shared/spiffe/selector.ts';
import { ByteWriter } from '../../shared/wire/byte-writer.ts';
import { refusalOf } from '../kit/refusal-of.ts';
import { startSwtpm, type Swtpm } from '../kit/swtpm.ts';
import {
  attestByTpm,
  beginAttestation,
  proverOf,
  random,
  RIG_CONTEXT,
  RIG_PCRS,
  TpmRig,
} from '../kit/tpm-rig.ts';

const ZEROS = '0'.repeat(64);

// Each test speaks to a TPM, and some start one.
setDefaultTimeout(60_000);

let rig: TpmRig;
beforeAll(async () => {
  rig = await TpmRig.open();
});
afterAll(() => rig.close());

describeNodeAttestor('TPM', async () => {
  const tpm = await startSwtpm();
  const prover = proverOf(tpm);
  await rig.approve(prover);
  return { type: 'tpm', attest: () => attestByTpm(prover, rig.attestor()), dispose: tpm.stop };
});

describe('TpmProver and TpmAttestor', () => {
  for (const ek of ['rsa', 'ecc'] as const)
    for (const ak of ['ecc', 'rsa'] as const)
      test(`a stranger with ek ${ek} and ak ${ak} is refused until an operator approves it, then let in`, async () => {
        const prover = proverOf(rig.host, { ek, ak });
        const { ekHash } = await prover.identity();
        await rig.hosts.remove(ekHash);
        const refusal = await refusalOf(attestByTpm(prover, rig.attestor()));
        expect(refusal.reason).toBe('ek_not_approved');
        expect(refusal.message).toContain(ekHash);
        await prover.close();

        await rig.hosts.approve({ ekHash, decidedBy: 'me', addresses: ['192.0.2.7'] });
        expect(await attestByTpm(prover, rig.attestor())).toEqual({
          name: ekHash,
          selectors: [
            `tpm:ek_hash:${ekHash}`,
            ...RIG_PCRS.map((pcr) => `tpm:pcr:${pcr}:${ZEROS}`),
            'tpm:has_certificate:true',
          ].map(parseSelector),
          canReattest: true,
          declaredAddresses: ['192.0.2.7'],
        });
      });

  test('a host is named as its operator named it', async () => {
    const prover = proverOf(rig.host);
    await rig.approve(prover, { name: 'web-1' });
    expect((await attestByTpm(prover, rig.attestor())).name).toBe('web-1');
  });

  test('a host without a certificate from NV is let in, unless one is required', async () => {
    const tpm = await startSwtpm();
    try {
      const prover = proverOf(tpm, { ek: 'ecc' });
      await rig.approve(prover);
      const { selectors } = await attestByTpm(prover, rig.attestor());
      expect(selectors.some((selector) => selector.startsWith('tpm:has_certificate'))).toBe(false);
      const strict = rig.attestor({ isEkCertificateRequired: true });
      expect((await refusalOf(attestByTpm(prover, strict))).reason).toBe('ek_certificate_untrusted');
      await prover.close();
    } finally {
      await tpm.stop();
    }
  });

  test('a required certificate of a known manufacturer is enough together with the approval', async () => {
    const prover = proverOf(rig.host);
    await rig.hosts.remove((await prover.identity()).ekHash);
    const ekHash = await rig.approve(prover);
    const node = await attestByTpm(prover, rig.attestor({ isEkCertificateRequired: true }));
    expect(node.selectors.map(String)).toContain('tpm:has_certificate:true');
    expect(await rig.hosts.find(ekHash)).toMatchObject({ state: 'approved', hasTrustedCertificate: true });
  });

  test('a host whose PCR differs from what is expected of it is refused, and let in in the expected state', async () => {
    const tpm = await startSwtpm();
    try {
      const prover = proverOf(tpm, { ek: 'ecc' });
      await rig.approve(prover, { expectedPcrs: { '10': [ZEROS] } });
      expect((await attestByTpm(prover, rig.attestor())).selectors.map(String)).toContain(
        `tpm:pcr:10:${ZEROS}`,
      );
      const value = await extendPcr(tpm, 10);
      expect((await refusalOf(attestByTpm(prover, rig.attestor()))).reason).toBe('pcr_unexpected');
      await rig.approve(prover, { expectedPcrs: { '10': [ZEROS, value] } });
      expect((await attestByTpm(prover, rig.attestor())).selectors.map(String)).toContain(
        `tpm:pcr:10:${value}`,
      );
    } finally {
      await tpm.stop();
    }
  });

  test('a denial between challenge and answer counts', async () => {
    const prover = proverOf(rig.host);
    const ekHash = await rig.approve(prover);
    const step = await beginAttestation(rig.attestor(), await prover.payload());
    const response = await prover.respond(step.challenge, RIG_CONTEXT);
    await rig.hosts.deny({ ekHash, decidedBy: 'me' });
    expect((await refusalOf(step.respond(response))).reason).toBe('ek_denied');
  });
});

/** TPM2_PCR_Extend by hand: nothing of Picket ever extends a PCR. Returns the new value. */
async function extendPcr(tpm: Swtpm, pcr: number): Promise<string> {
  const device = await openTpmDevice(tpm.address);
  try {
    const authorization = new ByteWriter().u32(0x4000_0009).u16(0).u8(1).u16(0).toBytes();
    const body = new ByteWriter()
      .u32(pcr)
      .u32(authorization.length)
      .bytes(authorization)
      .u32(1)
      .u16(0x000b)
      .bytes(random(32))
      .toBytes();
    const command = new ByteWriter()
      .u16(0x8002)
      .u32(10 + body.length)
      .u32(0x182)
      .bytes(body)
      .toBytes();
    const response = Buffer.from(await device.transmit(command));
    expect(response.readUInt32BE(6)).toBe(0);
    const values = await new TpmClient(device, systemClock).readPcrs([pcr]);
    return Buffer.from(values.get(pcr) ?? []).toString('hex');
  } finally {
    await device.close();
  }
}
