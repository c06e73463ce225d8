import { describe, expect, test } from 'bun:test';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { parseSelector } from './selector.ts';
import { requireWorkloadSelector } from './workload-selector.ts';

describe('requireWorkloadSelector()', () => {
  test.each([
    'unix:uid:0',
    'unix:gid:4294967294',
    'unix:supplementary_gid:27',
    'unix:user:a "quoted" name',
    'unix:group:www-data',
    'unix:supplementary_group:sudo',
    'unix:path:/usr/sbin/nginx',
    'unix:path:/opt/a:b',
    `unix:sha256:${'0a'.repeat(32)}`,
    'netns:name:shop',
    'netns:inode:4026531840',
  ])('takes %s', (text) => {
    requireWorkloadSelector(parseSelector(text));
  });

  test.each([
    'unix:foo:1',
    'unx:uid:1',
    'unix:uid',
    'unix:uid:',
    'unix:uid:www-data',
    'unix:uid:-1',
    'unix:uid:007',
    'unix:path:usr/sbin/nginx',
    `unix:sha256:${'0A'.repeat(32)}`,
    `unix:sha256:${'0a'.repeat(31)}`,
    'netns:shop',
    'netns:name:',
    'netns:inode:net:[4026531840]',
    'tpm:pub_hash:00',
  ])('refuses %s, which no process can have', (text) => {
    expect(reasonOf(() => requireWorkloadSelector(parseSelector(text)))).toBe('selector_unknown');
  });
});
