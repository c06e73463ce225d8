import { expect, test } from 'bun:test';
import { spiffeServerName } from './server-name.ts';
import { parseSpiffeId } from './spiffe-id.ts';

test('spiffeServerName() is the beginning of the SHA-256 of the ID', () => {
  // printf %s spiffe://example.org/billing | sha256sum
  expect(spiffeServerName(parseSpiffeId('spiffe://example.org/billing'))).toBe(
    '33cadf8db1ee945ca17de108a9fdc56a.picket',
  );
});

test('spiffeServerName() fits a DNS label for the longest ID', () => {
  const name = spiffeServerName(parseSpiffeId(`spiffe://a/${'b'.repeat(2000)}`));
  expect(name).toMatch(/^[0-9a-f]{32}\.picket$/);
});
