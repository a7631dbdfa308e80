output "lake_bucket" {
  description = "The bucket of the lake."
  value       = aws_s3_bucket.this["lake"].bucket
}

output "work_bucket" {
  description = "The bucket of what can be made again."
  value       = aws_s3_bucket.this["work"].bucket
}

output "log_bucket" {
  description = "The bucket of access logs; known once it may be written."
  value       = aws_s3_bucket_policy.this["logs"].bucket
}

output "kms_key_arn" {
  description = "The key that rows are encrypted with."
  value       = aws_kms_key.lake.arn
}

output "access" {
  description = "What whoever reads or writes the lake has to know."
  value = {
    root        = "s3://${aws_s3_bucket.this["lake"].bucket}/${local.prefix}"
    bucket      = aws_s3_bucket.this["lake"].bucket
    bucket_arn  = aws_s3_bucket.this["lake"].arn
    prefix      = local.prefix
    work_bucket = aws_s3_bucket.this["work"].bucket
    work_arn    = aws_s3_bucket.this["work"].arn
    kms_key_arn = aws_kms_key.lake.arn
  }
}

output "buckets" {
  description = "All three buckets."
  value       = [for bucket in aws_s3_bucket.this : bucket.bucket]
}
