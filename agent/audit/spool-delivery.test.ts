import { afterAll, afterEach, describe, expect, test } from 'bun:test';
import { fillSpool, SpoolRig } from '../../tests/kit/spool-rig.ts';

const rig = new SpoolRig();
afterEach(async () => await rig.closeAll());
afterAll(() => rig.remove());

describe('Spool.acknowledge()', () => {
  test('ships again what a restored server lacks and reports what is no longer here', async () => {
    const spool = rig.open(rig.fresh(), { segmentBytes: 4096 });
    fillSpool(spool, 30);
    const batch = await spool.readBatch({ records: 1000, bytes: 2000 });
    const { epoch } = batch!;
    expect(spool.acknowledge(epoch, 4)).toBe(true);
    expect(spool.acknowledge(epoch, 2)).toBe(true);
    expect((await spool.readBatch({ records: 5, bytes: 9000 }))?.records[0]?.sequence).toBe(3);
    expect(spool.acknowledge(epoch, 25)).toBe(true);
    expect(spool.acknowledge(epoch, 2)).toBe(false);
    expect(spool.acknowledge(epoch, 31)).toBe(false);
    expect(spool.acknowledge('00'.repeat(16), 31)).toBe(true);
  });
});
