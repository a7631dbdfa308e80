# Databases belong to OpenTofu, the tables in them to the lake's own assets: one owner each.

resource "aws_glue_catalog_database" "zone" {
  for_each     = var.zones
  name         = "${var.glue_prefix}_${each.key}"
  description  = "Tables of the zone ${each.key}, registered by lakehouse"
  location_uri = "${var.lake_root}/${each.key}/"
}

resource "aws_athena_workgroup" "lake" {
  name          = var.name
  description   = "Questions to the lake: one scans no more than ${floor(var.scanned_bytes_at_most / 1073741824)} GiB"
  force_destroy = var.allow_deletion

  configuration {
    enforce_workgroup_configuration    = true
    publish_cloudwatch_metrics_enabled = true
    bytes_scanned_cutoff_per_query     = var.scanned_bytes_at_most

    engine_version {
      selected_engine_version = "Athena engine version 3"
    }

    result_configuration {
      output_location = "s3://${var.work_bucket}/athena/"

      encryption_configuration {
        encryption_option = "SSE_KMS"
        kms_key_arn       = var.kms_key_arn
      }
    }
  }
}
