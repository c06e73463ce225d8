import { expect, test } from 'bun:test';
import { PicketError, type ErrorCode, type ErrorDetails } from '../../shared/errors/errors.ts';
import { problemResponse } from './problem-response.ts';

test('problemResponse() says when to ask again, in whole seconds, where asking again helps', () => {
  const retryAfter = (code: ErrorCode, details: ErrorDetails = {}): string | null =>
    problemResponse(new PicketError(code, 'a_reason', 'No', { details })).headers.get('retry-after');
  expect(retryAfter('resource_exhausted', { retry_after_ms: 2001 })).toBe('3');
  expect(retryAfter('resource_exhausted', { retry_after_ms: 1 })).toBe('1');
  expect(retryAfter('unavailable')).toBe('1');
  expect(retryAfter('invalid_argument', { retry_after_ms: 2001 })).toBeNull();
});
