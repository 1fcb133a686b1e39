import { handler } from "../../../castellan.ts"

export const GET = handler
export const POST = handler
export const PUT = handler
export const PATCH = handler
export const DELETE = handler

/** The route needs Node, and its responses cannot be prerendered. */
export const runtime = "nodejs"
export const dynamic = "force-dynamic"
