# Three buckets, alike in all that protects them: the lake, what can be made again, and who asked for what.

locals {
  buckets = {
    lake = var.lake_bucket
    work = var.work_bucket
    logs = var.access_log_to
  }
  # S3 and the load balancer write logs with keys of their own
  encrypted_by_us = { for role, bucket in local.buckets : role => bucket if role != "logs" }
  prefix          = "lake"

  log_writers = [
    {
      Sid       = "AccessLogs"
      Effect    = "Allow"
      Principal = { Service = "logging.s3.amazonaws.com" }
      Action    = "s3:PutObject"
      Resource  = "arn:aws:s3:::${var.access_log_to}/s3/*"
      Condition = { StringEquals = { "aws:SourceAccount" = var.account_id } }
    },
    {
      Sid       = "LoadBalancerLogs"
      Effect    = "Allow"
      Principal = { Service = "logdelivery.elasticloadbalancing.amazonaws.com" }
      Action    = "s3:PutObject"
      Resource  = "arn:aws:s3:::${var.access_log_to}/ui/AWSLogs/${var.account_id}/*" # what is held: it tells no account
    },
  ]
}

resource "aws_kms_key" "lake" {
  description             = "${var.name}: rows at rest"
  enable_key_rotation     = true
  deletion_window_in_days = 30

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "Administer"
      Effect    = "Allow"
      Principal = { AWS = "arn:aws:iam::${var.account_id}:root" }
      Action    = "kms:*" # roles of the account get what their own policies say, and no more
      Resource  = "*"     # of a key's own policy: this key
    }]
  })
}

resource "aws_kms_alias" "lake" {
  name          = "alias/${var.name}-lake"
  target_key_id = aws_kms_key.lake.key_id
}

resource "aws_s3_bucket" "this" {
  #checkov:skip=CKV2_AWS_61:each has one, by its key in for_each
  #checkov:skip=CKV2_AWS_62:sensors list, and nothing waits for an event
  #checkov:skip=CKV_AWS_144:what is lost with the region is made again from the archive next to it

  for_each      = local.buckets
  bucket        = each.value
  force_destroy = var.allow_deletion
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each                = local.buckets
  bucket                  = aws_s3_bucket.this[each.key].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  for_each = local.buckets
  bucket   = aws_s3_bucket.this[each.key].id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_versioning" "this" {
  for_each = local.buckets
  bucket   = aws_s3_bucket.this[each.key].id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  for_each = local.buckets
  bucket   = aws_s3_bucket.this[each.key].id

  rule {
    bucket_key_enabled = contains(keys(local.encrypted_by_us), each.key)

    apply_server_side_encryption_by_default {
      sse_algorithm     = contains(keys(local.encrypted_by_us), each.key) ? "aws:kms" : "AES256"
      kms_master_key_id = contains(keys(local.encrypted_by_us), each.key) ? aws_kms_key.lake.arn : null
    }
  }
}

resource "aws_s3_bucket_policy" "this" {
  for_each = local.buckets
  bucket   = aws_s3_bucket.this[each.key].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Sid       = "TlsOnly"
          Effect    = "Deny"
          Principal = "*"
          Action    = "s3:*"
          Resource  = [aws_s3_bucket.this[each.key].arn, "${aws_s3_bucket.this[each.key].arn}/*"]
          Condition = { Bool = { "aws:SecureTransport" = "false" } }
        },
        {
          Sid       = "Tls12AtLeast"
          Effect    = "Deny"
          Principal = "*"
          Action    = "s3:*"
          Resource  = [aws_s3_bucket.this[each.key].arn, "${aws_s3_bucket.this[each.key].arn}/*"]
          Condition = { NumericLessThan = { "s3:TlsVersion" = "1.2" } }
        },
      ],
      [for said in local.log_writers : said if each.key == "logs"],
    )
  })

  depends_on = [aws_s3_bucket_public_access_block.this]
}

resource "aws_s3_bucket_logging" "this" {
  for_each      = local.encrypted_by_us
  bucket        = aws_s3_bucket.this[each.key].id
  target_bucket = aws_s3_bucket.this["logs"].id
  target_prefix = "s3/${each.key}/"
}

resource "aws_s3_bucket_lifecycle_configuration" "lake" {
  bucket = aws_s3_bucket.this["lake"].id

  rule {
    id     = "abort-uploads"
    status = "Enabled"
    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }
  }

  # What was replaced or deleted can be had back for a month.
  rule {
    id     = "expire-replaced"
    status = "Enabled"

    filter {
      prefix = "${local.prefix}/"
    }

    noncurrent_version_expiration {
      noncurrent_days = 30
    }

    expiration {
      expired_object_delete_marker = true
    }
  }

  # Caches and memories of sensors are replaced every few minutes, and can be made again.
  rule {
    id     = "expire-replaced-caches"
    status = "Enabled"

    filter {
      prefix = "${local.prefix}/ledger/"
    }

    noncurrent_version_expiration {
      noncurrent_days = 1
    }
  }

  # Archive files as fetched are read again only by `reingest`.
  rule {
    id     = "cool-landing"
    status = "Enabled"

    filter {
      prefix = "${local.prefix}/landing/"
    }

    transition {
      days          = 90
      storage_class = "GLACIER_IR"
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_bucket_lifecycle_configuration" "made_again" {
  for_each = { work = 30, logs = 365 }
  bucket   = aws_s3_bucket.this[each.key].id

  rule {
    id     = "expire"
    status = "Enabled"
    filter {}

    expiration {
      days = each.value
    }

    noncurrent_version_expiration {
      noncurrent_days = 1
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}
