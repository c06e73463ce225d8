import type { SpiffeId } from './spiffe-id.ts';

const SCHEME_LENGTH = 'spiffe://'.length;

/**
 * Whether an ID is the segment's own or stands below it: `/ns/a` holds `/ns/a` and `/ns/a/sa/x`, never `/ns/ab`. Whole path segments count, because a SPIFFE ID has
 * one spelling and no slash at its end (SPIFFE-ID.md 2). The ID of a trust domain holds all of that domain.
 */
export function isInSegment(id: SpiffeId, segment: SpiffeId): boolean {
  return id === segment || id.startsWith(`${segment}/`);
}

/** The segments that an ID stands in, itself first, the trust domain last. */
export function* segmentsOf(id: SpiffeId): Generator<SpiffeId> {
  yield id;
  for (let at = id.lastIndexOf('/'); at >= SCHEME_LENGTH; at = id.lastIndexOf('/', at - 1))
    yield id.slice(0, at) as SpiffeId;
}
