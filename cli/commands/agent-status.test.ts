import { expect, test } from 'bun:test';
import { buildStatus } from '../../agent/admin/status.ts';
import { startingAgentState } from '../../tests/kit/agent-state.ts';
import { renderStatus } from './agent-status.ts';

const STATUS = buildStatus(startingAgentState());

test('renderStatus() says that UDP is dropped where the agent keeps the rules that drop it, and nowhere else', () => {
  const udpWith = (mode: 'nftables' | 'off'): string | undefined =>
    /^udp: +(.*)$/m.exec(renderStatus({ ...STATUS, udp: null, capture: { ...STATUS.capture, mode } }))?.[1];
  expect(udpWith('nftables')).toBe('dropped, but for capture.allow_udp and egress.resolvers');
  expect(udpWith('off')).toBe('left alone: the agent keeps no rules');
});
